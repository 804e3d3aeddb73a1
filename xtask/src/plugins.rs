//! The plugins under plugins/, built to WebAssembly and put where pipeline.yaml looks for them.

use crate::run::{cargo, root, run};
use crate::{install, languages};
use anyhow::{Context, Result};

/// Builds the plugins in Rust and C and, where `others`, in AssemblyScript and Go.
pub fn all(others: bool) -> Result<()> {
    build()?;
    languages::c()?;
    if others {
        languages::assembly_script()?;
        languages::go()?;
    }
    Ok(())
}

/// Builds every crate under plugins/ and plugins/hostile/ and copies the modules to `plugins/NAME.wasm`. Returns name and size in bytes.
pub fn build() -> Result<Vec<(String, u64)>> {
    install::wasm_target()?;
    let mut names = Vec::new();
    for folder in ["plugins", "plugins/hostile"] {
        for entry in std::fs::read_dir(root().join(folder)).context(folder)? {
            let path = entry?.path();
            if let (true, Some(name)) = (path.join("Cargo.toml").exists(), path.file_name()) {
                names.push(name.to_string_lossy().into_owned());
            }
        }
    }
    names.sort();
    let mut arguments = vec![
        "build",
        "--quiet",
        "--profile",
        "plugin",
        "--target",
        "wasm32-unknown-unknown",
    ];
    for name in &names {
        arguments.extend(["--package", name]);
    }
    run(&mut cargo(&arguments))?;
    names.into_iter().map(|name| Ok((name.clone(), put(&name)?))).collect()
}

/// Builds the guests of the plugin benchmark, which stay in the target folder.
pub fn build_for_bench() -> Result<()> {
    run(&mut cargo(&[
        "build",
        "--quiet",
        "--profile",
        "plugin",
        "--target",
        "wasm32-unknown-unknown",
        "--package",
        "filter_one",
        "--package",
        "mask_one",
        "--package",
        "rows_as_maps",
        "--package",
        "total_by_key",
        "--package",
        "typed_six",
    ]))
}

fn put(name: &str) -> Result<u64> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    let built = target
        .join("wasm32-unknown-unknown/plugin")
        .join(format!("{name}.wasm"));
    let place = root().join("plugins").join(format!("{name}.wasm"));
    // By rename, so that a running pipeline never sees half of it.
    let partial = place.with_extension("wasm.partial");
    let size = std::fs::copy(&built, &partial).with_context(|| built.display().to_string())?;
    std::fs::rename(&partial, &place).with_context(|| place.display().to_string())?;
    Ok(size)
}
