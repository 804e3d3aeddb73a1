//! Pages under `docs/reference` that are made from the code: a test compares each with the file.

use std::path::Path;

/// Fails where the page differs from the file; with ROWMILL_BLESS=1 it writes the file.
pub(crate) fn check(name: &str, page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/reference")
        .join(name);
    let page = format!("{}\n", page.trim_end());
    if std::env::var_os("ROWMILL_BLESS").is_some() {
        std::fs::write(&path, &page).expect("the repository can be written to");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == page,
        "docs/reference/{name} is not what the code says: ROWMILL_BLESS=1 cargo nextest run -p rowmill reference"
    );
}
