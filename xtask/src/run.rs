//! Running other programs.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(PathBuf::new, Path::to_path_buf)
}

/// A command in the root of the workspace.
pub fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    command
}

/// The cargo that runs this task, as if it was called by itself: what it has told this task about its own package would
/// have build scripts that ask for such variables (ring's) run again, here and in the next plain build.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()), arguments);
    for (name, _) in std::env::vars_os() {
        let of_package = ["CARGO_PKG_", "CARGO_MANIFEST_"];
        if name
            .to_str()
            .is_some_and(|name| of_package.iter().any(|of| name.starts_with(of)))
        {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Runs to the end; fails where the program does.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{} {}", command.get_program().display(), shown_arguments(command));
    println!("\x1b[2m$ {shown}\x1b[0m");
    let status = command.status().with_context(|| shown.clone())?;
    ensure!(status.success(), "{shown}: {status}");
    Ok(())
}

fn shown_arguments(command: &Command) -> String {
    let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
    arguments.join(" ")
}

/// Whether a program answers.
pub fn answers(program: &str, arguments: &[&str]) -> bool {
    let output = command(program, arguments).output();
    output.is_ok_and(|output| output.status.success())
}
