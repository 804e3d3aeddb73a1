//! What can go wrong on the command line itself.

use crate::problem::Code;

pub const CODES: &[Code] = &[
    LOG_FILTER,
    NO_RUNTIME,
    NO_HOST,
    HOST_ANSWER,
    SLOT_OF_ANOTHER,
    NO_ROLLBACK,
    REFUSED,
    PLUGIN_FILES,
    BUG,
];

const fn code(code: &'static str, title: &'static str, explanation: &'static str) -> Code {
    Code {
        code,
        title,
        explanation,
    }
}

pub(super) const LOG_FILTER: Code = code(
    "E0902",
    "the log filter can't be read",
    "`--log` and `RUST_LOG` take a level (`error`, `warn`, `info`, `debug`, `trace`), or `module=level` separated by \
     commas.",
);
pub(super) const NO_RUNTIME: Code = code(
    "E0903",
    "the process can't be set up",
    "The system refused threads or file descriptors. Its limits are shown by `ulimit -a`.",
);
pub(super) const NO_HOST: Code = code(
    "E0904",
    "no running host answers",
    "`rowmill status` and `rowmill tail` ask the console of a running host, on 127.0.0.1:7070 unless `--console` says \
     otherwise. Nothing listens there, or it isn't a Rowmill.",
);
pub(super) const HOST_ANSWER: Code = code(
    "E0905",
    "the host's answer can't be used",
    "The console answered with an error, or with something that isn't what was asked for. Another program may be \
     listening on that port. Where it hasn't answered in time, what was asked for may still take effect: look first.",
);
pub(super) const SLOT_OF_ANOTHER: Code = code(
    "E0906",
    "the slot is not one of this pipeline's database",
    "`rowmill slot drop` drops logical slots of the database that the pipeline's source names. Physical slots keep \
     standbys going, and slots of other databases belong to others.",
);
pub(super) const NO_ROLLBACK: Code = code(
    "E0907",
    "the plugin can't go back",
    "The running host refused to go back to the version before. The headline is its own: the plugin isn't known there, \
     or nothing is kept that it could go back to.",
);
pub(super) const REFUSED: Code = code(
    "E0908",
    "the running host refuses",
    "The host was asked for something that it can't do. The headline, the cause and the fix are its own.",
);
pub(super) const PLUGIN_FILES: Code = code(
    "E0946",
    "a file of the plugin can't be read or written",
    "`rowmill plugin new` writes a crate, `rowmill plugin build` a module. The cause names the file and what the \
     system said.",
);
pub(super) const BUG: Code = code(
    "E0999",
    "a bug in Rowmill",
    "Something happened that should be impossible. Nothing that wasn't durable was acknowledged, so a restart sends it \
     again. Please report it with the text and the version.",
);
