//! What the machine needs besides Rust.

use crate::run::{answers, command, run};
use anyhow::{Context, Result};
use std::path::Path;

const WASM_TARGET: &str = "wasm32-unknown-unknown";
/// Kept in place while packages are installed, so that they don't start their services.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Postgres, its client and a C linker, and the Wasm target.
pub fn all() -> Result<()> {
    postgres()?;
    strace();
    wasm_target()
}

/// What has system calls fail in tests of faults. Those are skipped where it can't be had.
fn strace() {
    if !answers("strace", &["--version"]) {
        println!("strace is missing: installing Debian's package");
        if let Err(error) = debian(&["strace"]) {
            println!("tests that need it are skipped: {error:#}");
        }
    }
}

/// PostgreSQL's server programs, from Debian.
pub fn postgres() -> Result<()> {
    let installed = std::fs::read_dir("/usr/lib/postgresql").is_ok_and(|mut versions| {
        versions.any(|version| version.is_ok_and(|version| version.path().join("bin/postgres").exists()))
    });
    if installed && answers("psql", &["--version"]) {
        return Ok(());
    }
    println!("PostgreSQL is missing: installing Debian's package postgresql");
    debian(&["postgresql", "postgresql-client"])
}

/// Installs Debian's packages, without starting the services that they bring.
pub fn debian(packages: &[&str]) -> Result<()> {
    let sudo = if answers("id", &["-u"]) && is_root()? {
        &[][..]
    } else {
        &["sudo"][..]
    };
    let policy_made = is_root()? && !Path::new(POLICY).exists();
    if policy_made {
        std::fs::write(POLICY, "#!/bin/sh\nexit 101\n").context(POLICY)?;
        run(&mut command("chmod", &["755", POLICY]))?;
    }
    let apt = |arguments: &[&str]| {
        let all: Vec<&str> = sudo.iter().chain(&["apt-get"]).chain(arguments).copied().collect();
        let mut command = command(all[0], &all[1..]);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        run(&mut command)
    };
    let installed = apt(&["update", "-qq"])
        .and_then(|()| apt(&[&["install", "-y", "-qq", "--no-install-recommends"], packages].concat()));
    if policy_made {
        std::fs::remove_file(POLICY).context(POLICY)?;
    }
    installed
}

fn is_root() -> Result<bool> {
    let output = command("id", &["-u"]).output().context("id")?;
    Ok(output.stdout.trim_ascii() == b"0")
}

/// The target that plugins are built for.
pub fn wasm_target() -> Result<()> {
    let output = command("rustc", &["--print", "target-libdir", "--target", WASM_TARGET])
        .output()
        .context("rustc")?;
    if Path::new(String::from_utf8_lossy(&output.stdout).trim()).exists() {
        return Ok(());
    }
    println!("The {WASM_TARGET} target is missing: installing it with rustup");
    run(&mut command("rustup", &["target", "add", WASM_TARGET]))
}

/// The test runner; `false` where it can't be had and `cargo test` has to do.
pub fn nextest() -> bool {
    if answers("cargo", &["nextest", "--version"]) {
        return true;
    }
    println!("cargo-nextest is missing: installing it from crates.io");
    run(&mut command(
        "cargo",
        &["install", "--locked", "--quiet", "cargo-nextest"],
    ))
    .is_ok()
}

/// cargo-fuzz, and the C++ compiler that libFuzzer is built with.
pub fn fuzzer() -> Result<()> {
    if !answers("c++", &["--version"]) {
        println!("A C++ compiler is missing: installing Debian's package g++");
        debian(&["g++"])?;
    }
    if answers("cargo", &["fuzz", "--version"]) {
        return Ok(());
    }
    println!("cargo-fuzz is missing: installing it from crates.io");
    run(&mut command("cargo", &["install", "--locked", "--quiet", "cargo-fuzz"]))
}
