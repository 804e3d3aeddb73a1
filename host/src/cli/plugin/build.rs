//! `rowmill plugin build`: Cargo with the right target and profile.

use super::codes::{BUILD_FAILED, NO_CARGO, NO_CRATE, NO_MODULE, NO_TARGET};
use crate::problem::{Exit, Problem};
use anyhow::Context;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What plugins are built for.
const TARGET: &str = "wasm32-unknown-unknown";

/// The profile `plugin`, for crates that have none: small modules, with names kept for backtraces.
const PROFILE: [&str; 6] = [
    "profile.plugin.inherits=\"release\"",
    "profile.plugin.opt-level=3",
    "profile.plugin.lto=\"fat\"",
    "profile.plugin.codegen-units=1",
    "profile.plugin.panic=\"abort\"",
    "profile.plugin.strip=\"debuginfo\"",
];

/// Texts are looked at 16 bytes at a time. Beside those flags that the crate's own configuration has.
const FEATURES: &str = "target.wasm32-unknown-unknown.rustflags=[\"-C\", \"target-feature=+simd128\"]";

/// What a transform with a configuration should need at most; a larger module loads slower, and hints at a dependency
/// too many.
pub const SIZE_MAX_BYTES: u64 = 200 * 1024;

/// A module that was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// Where it lies: `out` where that was given, else Cargo's own folder.
    pub path: PathBuf,
    pub size_bytes: u64,
}

/// Builds the plugin whose crate is in `folder`. The module is copied to `out`, a file or a folder, in one step, so
/// that a running pipeline never sees half of it. Cargo's own messages go to stderr.
pub fn build(folder: &Path, out: Option<&Path>) -> anyhow::Result<Built> {
    let manifest = folder.join("Cargo.toml");
    if !manifest.is_file() {
        let headline = format!("there is no Cargo.toml in {}", folder.display());
        let help = format!("rowmill plugin new {}", folder.display());
        return Err(Problem::new(NO_CRATE.code, Exit::Usage, headline, help).into());
    }
    check_target()?;
    let module = run_cargo(&manifest.canonicalize()?)?;
    let path = match out {
        None => module,
        Some(out) => {
            let name = module
                .file_name()
                .context("a module that Cargo names has a file name")?;
            let path = if out.is_dir() { out.join(name) } else { out.to_owned() };
            replace(&module, &path).with_context(|| format!("{} can't be written", path.display()))?;
            path
        }
    };
    let size_bytes = path.metadata()?.len();
    Ok(Built { path, size_bytes })
}

fn tool(variable: &str, name: &str) -> OsString {
    std::env::var_os(variable).unwrap_or_else(|| name.into())
}

/// Installs the target where it is missing; refuses early where that can't be done: Cargo's own words for it are "can't find crate for `core`". Where it
/// can't be told, Cargo shall try.
fn check_target() -> anyhow::Result<()> {
    let libraries = Command::new(tool("RUSTC", "rustc"))
        .args(["--print", "target-libdir", "--target", TARGET])
        .stderr(Stdio::null())
        .output();
    let Ok(libraries) = libraries else {
        return Ok(());
    };
    let folder = String::from_utf8_lossy(&libraries.stdout);
    if !libraries.status.success() || Path::new(folder.trim()).is_dir() {
        return Ok(());
    }
    let added = Command::new("rustup")
        .args(["target", "add", TARGET])
        .stdout(Stdio::null())
        .status();
    if added.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    let headline = format!("Rust's target {TARGET} is not installed");
    let help = format!("rustup target add {TARGET}");
    Err(Problem::new(NO_TARGET.code, Exit::Usage, headline, help).into())
}

/// Runs Cargo and returns the module that it made of the crate.
fn run_cargo(manifest: &Path) -> anyhow::Result<PathBuf> {
    let mut cargo = Command::new(tool("CARGO", "cargo"));
    cargo.args(["build", "--target", TARGET, "--profile", "plugin", "--lib"]);
    cargo
        .args(["--message-format", "json-render-diagnostics", "--manifest-path"])
        .arg(manifest);
    for setting in PROFILE.into_iter().chain([FEATURES]) {
        cargo.args(["--config", setting]);
    }
    let output = cargo.stderr(Stdio::inherit()).output().map_err(|error| {
        let help = "install Rust from https://rustup.rs";
        Problem::new(NO_CARGO.code, Exit::Usage, "cargo can't be run", help).with_cause(error)
    })?;
    if !output.status.success() {
        let headline = format!("cargo could not build {}", manifest.display());
        return Err(Problem::new(
            BUILD_FAILED.code,
            Exit::Usage,
            headline,
            "correct what cargo reports above",
        )
        .into());
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let module = messages
        .lines()
        .filter_map(|line| module_in(line, manifest))
        .next_back();
    Ok(module.ok_or_else(|| {
        let headline = format!("{} makes no WebAssembly module", manifest.display());
        let help = "add to it: [lib] crate-type = [\"cdylib\", \"rlib\"]";
        Problem::new(NO_MODULE.code, Exit::Usage, headline, help)
    })?)
}

/// The module that one of Cargo's messages names, if it is this crate's.
fn module_in(message: &str, manifest: &Path) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    if message["reason"] != "compiler-artifact" || Path::new(message["manifest_path"].as_str()?) != manifest {
        return None;
    }
    let files = message["filenames"].as_array()?;
    let files = files.iter().filter_map(|file| file.as_str().map(PathBuf::from));
    files
        .into_iter()
        .find(|file| file.extension().is_some_and(|extension| extension == "wasm"))
}

/// Puts a copy of `from` in the place of `to` by a rename.
fn replace(from: &Path, to: &Path) -> std::io::Result<()> {
    let mut beside = to.as_os_str().to_owned();
    beside.push(".part");
    std::fs::copy(from, &beside)?;
    std::fs::rename(&beside, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_crate_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = build(folder.path(), None).unwrap_err();
        assert_eq!(error.downcast_ref::<Problem>().unwrap().code, NO_CRATE.code);
    }

    #[test]
    fn the_module_of_the_crate_itself_is_found() {
        let manifest = Path::new("/p/Cargo.toml");
        let message = |manifest: &str, reason: &str| {
            serde_json::json!({
                "reason": reason,
                "manifest_path": manifest,
                "filenames": ["/p/target/libp.rlib", "/p/target/p.wasm"],
            })
            .to_string()
        };
        let own = message("/p/Cargo.toml", "compiler-artifact");
        assert_eq!(module_in(&own, manifest), Some(PathBuf::from("/p/target/p.wasm")));
        assert_eq!(
            module_in(&message("/other/Cargo.toml", "compiler-artifact"), manifest),
            None
        );
        assert_eq!(
            module_in(&message("/p/Cargo.toml", "build-script-executed"), manifest),
            None
        );
        assert_eq!(module_in("no json", manifest), None);
    }
}
