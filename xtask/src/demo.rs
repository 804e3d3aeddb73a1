//! The demonstration: installs and builds what is needed, then hands over to `rowmill demo`.

use crate::run::{cargo, root, run};
use crate::{install, plugins};
use anyhow::{Context, Result};
use std::os::unix::process::CommandExt;
use std::process::Command;

pub fn demo(seconds: Option<u64>) -> Result<()> {
    install::all()?;
    for (name, bytes) in plugins::build()? {
        println!("built plugins/{name}.wasm, {} KiB", bytes.div_ceil(1024));
    }
    run(&mut cargo(&["build", "--quiet", "--package", "rowmill"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    let mut demo = Command::new(std::path::Path::new(&target).join("debug/rowmill"));
    demo.arg("demo").current_dir(root());
    if let Some(seconds) = seconds {
        demo.args(["--seconds", &seconds.to_string()]);
    }
    // In place of this process: Ctrl-C would end this one at once, and the prompt would come back before the demo has
    // ended.
    Err(demo.exec()).context("rowmill demo")
}
