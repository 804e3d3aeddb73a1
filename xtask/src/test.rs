//! All tests, and the lints.

use crate::run::{cargo, run};
use crate::{bemi, install, plugins};
use anyhow::Result;

/// Installs, builds and runs everything; `arguments` go to the test runner.
pub fn test(arguments: &[String]) -> Result<()> {
    install::all()?;
    check()?;
    plugins::all(true)?;
    bemi::client();
    bemi::sqlalchemy();
    run(&mut cargo(&["build", "--quiet", "--package", "rowmill"]))?;
    let nextest = install::nextest();
    let mut runner = if nextest {
        cargo(&["nextest", "run", "--workspace"])
    } else {
        cargo(&["test", "--workspace"])
    };
    run(runner.args(arguments))?;
    if nextest {
        run(&mut cargo(&["test", "--workspace", "--doc", "--quiet"]))?;
    }
    Ok(())
}

/// Formatting and lints, warnings denied; in what plugins' authors read, links that lead nowhere too.
pub fn check() -> Result<()> {
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    run(&mut cargo(&[
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    let mut doc = cargo(&["doc", "--quiet", "--no-deps"]);
    for read in ["rowmill-plugin", "rowmill-plugin-macros", "rowmill-abi"] {
        doc.args(["--package", read]);
    }
    run(doc.env("RUSTDOCFLAGS", "-D warnings"))
}
