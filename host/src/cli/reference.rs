//! `docs/reference/command-line.md`, made of what `--help` prints.

use super::Cli;
use clap::{Command, CommandFactory};
use std::fmt::Write;

const HEAD: &str = "\
# Command line

What `--help` prints, verb by verb. Results go to standard output, errors and the log to standard error;
`--output json` gives either a form for programs.

| exit code | meaning |
| --- | --- |
| 0 | done |
| 2 | wrong arguments or configuration |
| 3 | the database, as it is set up, can't serve the pipeline |
| 4 | a gap in the stream, or a lost slot |
| 5 | a plugin was refused |
| 6 | a sink stopped for good |
| 70 | a bug |
| 128 + n | ended by signal n before everything under way was delivered |

";

/// Every visible verb, those of `rowmill plugin` and `rowmill slot` included.
fn section(page: &mut String, command: &Command, path: &str) {
    let help = command.clone().bin_name(path).render_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    // Writing to a String can't fail.
    let _ = writeln!(page, "## {path}\n\n```text\n{}\n```\n", help.join("\n").trim_end());
    for verb in command.get_subcommands() {
        if verb.get_name() != "help" && !verb.is_hide_set() {
            section(page, verb, &format!("{path} {}", verb.get_name()));
        }
    }
}

#[test]
fn the_reference_is_up_to_date() {
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut page = HEAD.to_owned();
    section(&mut page, &command, "rowmill");
    crate::reference::check("command-line.md", &page);
}
