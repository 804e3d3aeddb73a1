//! What can go wrong with the demo itself.

use crate::problem::{Code, Exit, Problem};
use std::fmt::Display;

pub const CODES: &[Code] = &[FOLDER, SERVER, SQL, DIFFERENT, NO_REST];

const fn code(code: &'static str, title: &'static str, explanation: &'static str) -> Code {
    Code {
        code,
        title,
        explanation,
    }
}

const FOLDER: Code = code(
    "E0951",
    "the demo's folder can't be used",
    "The demo keeps its server, state and output in a folder of its own under the folder for temporary files, which \
     TMPDIR names. It is removed at the end.",
);
const SERVER: Code = code(
    "E0952",
    "the demo's private Postgres can't be started",
    "The demo runs `initdb` and `pg_ctl` of the newest PostgreSQL under /usr/lib/postgresql, of the folder that PG_BIN \
     names, or of PATH. Postgres refuses to run as root: root runs it as the user `postgres`.",
);
const SQL: Code = code(
    "E0953",
    "the demo's shop can't be used",
    "A statement of the demo's own failed at its private Postgres.",
);
const DIFFERENT: Code = code(
    "E0954",
    "the demo's output is not what the shop's rows should make",
    "At the end the demo compares the warehouse with the shop, row by row, and looks for addresses in the feed. They \
     differ: a bug, of Rowmill or of the demo. Please report it with the text and the version.",
);
const NO_REST: Code = code(
    "E0955",
    "the demo's pipeline doesn't come to rest",
    "The load has stopped, but the pipeline hasn't delivered what is there. The log says why: `--log info`.",
);

/// The folder, or a file in it.
pub(super) fn folder(cause: impl Display) -> Problem {
    let help = "name a folder for temporary files that others may enter: `TMPDIR=/tmp rowmill demo`";
    Problem::new(FOLDER.code, Exit::Usage, FOLDER.title, help).with_cause(cause)
}

pub(super) fn server(cause: impl Display) -> Problem {
    let help = "install PostgreSQL 15 or later: `apt-get install postgresql`";
    Problem::new(SERVER.code, Exit::Usage, SERVER.title, help).with_cause(cause)
}

/// A statement that failed, with what the server says.
pub(super) fn sql(error: impl std::error::Error + Send + Sync + 'static) -> Problem {
    stopped(format!("{:#}", anyhow::Error::new(error)))
}

/// The load ended for another reason.
pub(super) fn stopped(cause: impl Display) -> Problem {
    let help = "start the demo again: `rowmill demo --log info`";
    Problem::new(SQL.code, Exit::Usage, SQL.title, help).with_cause(cause)
}

pub(super) fn different(cause: impl Display) -> Problem {
    let help = "report it with this text and `rowmill --version`";
    let headline = "the demo's output is not what the shop's rows should make";
    Problem::new(DIFFERENT.code, Exit::Bug, headline, help).with_cause(cause)
}

pub(super) fn no_rest(cause: impl Display) -> Problem {
    let help = "start the demo again: `rowmill demo --log info`";
    Problem::new(NO_REST.code, Exit::Sink, NO_REST.title, help).with_cause(cause)
}
