//! `rowmill plugin new`: a plugin's crate that builds and passes its test at once, in a repository of its own.

use super::codes::{FOLDER_IN_USE, FOLDER_NAME, NO_SDK};
use crate::problem::{Exit, Problem};
use std::path::{Path, PathBuf};

/// What the plugin does with rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Says which rows match.
    Filter,
    /// Changes rows.
    Transform,
}

/// Where the crate takes the SDK from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sdk {
    Path(PathBuf),
    Version(&'static str),
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Created {
    pub folder: PathBuf,
    /// The crate's name, which is the function's too.
    pub name: String,
    pub sdk: Sdk,
    /// Relative to the folder.
    pub files: Vec<String>,
}

/// Lays out a plugin's crate in `folder`, which is made where it isn't there.
///
/// The SDK is the one at `sdk`, else the one of the source tree that this program was built in, where that is still
/// there, else this version of the published one.
pub fn new(folder: &Path, kind: Kind, sdk: Option<&Path>) -> anyhow::Result<Created> {
    let name = crate_name(folder)?;
    let sdk = find_sdk(sdk)?;
    if folder.exists() && folder.read_dir()?.next().is_some() {
        let headline = format!("{} is not empty", folder.display());
        return Err(Problem::new(
            FOLDER_IN_USE.code,
            Exit::Usage,
            headline,
            "name a folder that isn't there yet",
        )
        .into());
    }
    let samples = format!("{name}.samples");
    std::fs::create_dir_all(folder.join("src"))?;
    std::fs::create_dir_all(folder.join(&samples))?;
    let [source, given, expected] = match kind {
        Kind::Filter => [
            include_str!("template/filter.rs.txt"),
            include_str!("template/filter.samples.txt"),
            include_str!("template/filter.expected.txt"),
        ],
        Kind::Transform => [
            include_str!("template/transform.rs.txt"),
            include_str!("template/transform.samples.txt"),
            include_str!("template/transform.expected.txt"),
        ],
    };
    let dependency = match &sdk {
        Sdk::Path(path) => format!("{{ path = {} }}", toml_string(&path.to_string_lossy())),
        Sdk::Version(version) => toml_string(version),
    };
    let filled = |template: &str| template.replace("{{name}}", &name).replace("{{sdk}}", &dependency);
    let contents = [
        ("Cargo.toml".to_owned(), filled(include_str!("template/Cargo.toml.txt"))),
        ("src/lib.rs".to_owned(), filled(source)),
        (format!("{samples}/first.jsonl"), given.to_owned()),
        (format!("{samples}/first.expected.jsonl"), expected.to_owned()),
        (".gitignore".to_owned(), "/target/\n".to_owned()),
    ];
    for (file, content) in &contents {
        std::fs::write(folder.join(file), content)?;
    }
    let files = contents.map(|(file, _)| file).to_vec();
    Ok(Created {
        folder: folder.to_owned(),
        name,
        sdk,
        files,
    })
}

/// A crate's and function's name made of the folder's: `paid-only` gives `paid_only`.
fn crate_name(folder: &Path) -> anyhow::Result<String> {
    let given = folder
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let name = given.replace('-', "_").to_lowercase();
    let is_fit = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !KEYWORDS.contains(&name.as_str());
    if is_fit {
        return Ok(name);
    }
    let headline = format!("`{given}` can't be the name of a plugin");
    let help = "name the folder with a letter first, then letters, digits and underscores, e.g. paid_only";
    Err(Problem::new(FOLDER_NAME.code, Exit::Usage, headline, help).into())
}

/// Names that a function or crate can't have.
const KEYWORDS: [&str; 48] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "core", "crate", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro",
    "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "std", "struct",
    "super", "test", "trait", "true", "try", "type", "unsafe", "use",
];

fn find_sdk(given: Option<&Path>) -> anyhow::Result<Sdk> {
    let is_sdk = |path: &Path| path.join("Cargo.toml").is_file();
    if let Some(path) = given {
        if is_sdk(path) {
            return Ok(Sdk::Path(path.canonicalize()?));
        }
        let headline = format!("there is no SDK in {}", path.display());
        let help = "give the folder `plugin-sdk` of a checkout with --sdk";
        return Err(Problem::new(NO_SDK.code, Exit::Usage, headline, help).into());
    }
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugin-sdk");
    if is_sdk(&beside) {
        return Ok(Sdk::Path(beside.canonicalize()?));
    }
    Ok(Sdk::Version(env!("CARGO_PKG_VERSION")))
}

/// A string as TOML writes it. JSON's escapes are TOML's too.
fn toml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_name_to_the_crate() {
        for (folder, name) in [("a/paid-only", "paid_only"), ("Mask_PII", "mask_pii"), ("p2", "p2")] {
            assert_eq!(crate_name(Path::new(folder)).unwrap(), name);
        }
        for folder in ["2p", "füllen", "a b", "match", "..", "/"] {
            let error = crate_name(Path::new(folder)).unwrap_err();
            assert_eq!(
                error.downcast_ref::<Problem>().unwrap().code,
                FOLDER_NAME.code,
                "{folder}"
            );
        }
    }

    #[test]
    fn a_crate_is_laid_out_once() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("paid-only");
        let created = new(&folder, Kind::Filter, None).unwrap();
        assert_eq!(created.name, "paid_only");
        assert!(matches!(created.sdk, Sdk::Path(_)));
        for file in &created.files {
            let content = std::fs::read_to_string(folder.join(file)).unwrap();
            assert!(
                !content.contains("{{"),
                "{file} has a place that wasn't filled:\n{content}"
            );
        }
        let error = new(&folder, Kind::Filter, None).unwrap_err();
        assert_eq!(error.downcast_ref::<Problem>().unwrap().code, FOLDER_IN_USE.code);
    }

    #[test]
    fn an_sdk_that_is_not_there_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let error = new(&base.path().join("plugin"), Kind::Transform, Some(base.path())).unwrap_err();
        assert_eq!(error.downcast_ref::<Problem>().unwrap().code, NO_SDK.code);
        assert!(!base.path().join("plugin").exists());
    }
}
