//! For tests: adds one to `n`, as `picky` does, and breaks on nothing.

use rowmill_plugin::prelude::*;

#[transform(read(kind, n), write(n))]
fn picky_mended(row: &Row, patch: &mut Patch) -> Result<()> {
    row.text("kind")?;
    if let Some(n) = row.int("n")? {
        patch.set("n", n + 1);
    }
    Ok(())
}
