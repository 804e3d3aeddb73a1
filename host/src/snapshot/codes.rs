//! What can go wrong while tables are copied or sampled.

use crate::problem::Code;

/// Every code with what it means, for docs/reference/errors.md.
pub const CODES: &[Code] = &[
    Code {
        code: "E0601",
        title: "a table can't be read",
        explanation: "The copy reads it with SELECT, which the role may not.",
    },
    Code {
        code: "E0602",
        title: "the copy broke off",
        explanation: "The server could not be reached for longer than the attempts last. The copy goes on \
                      with the next start.",
    },
    Code {
        code: "E0603",
        title: "a table was altered while it was copied",
        explanation: "Rows read before and after have different columns, so the copy of the table starts over, by itself: \
                      the session ends in order and another begins. The pipeline stops with this only where that happens \
                      again and again.",
    },
    Code {
        code: "E0604",
        title: "changes outgrew the spill during a copy",
        explanation: "A table without a key is copied as one piece, and changes to it wait until it is through: on disk, in a \
                      file of the state folder that has no name, where they are more than a MiB. They count in `spill`. A \
                      primary key lets the table be copied in units, so that nothing waits.",
    },
    Code {
        code: "E0605",
        title: "the server refused to copy a table",
        explanation: "The server's own message with its SQLSTATE is the cause; of class 22 the SQLSTATE alone, as such messages \
                      quote values: the server's log has them. Mostly `where` or a row filter can't be worked out for a row.",
    },
    Code {
        code: "E0606",
        title: "a row came without its key",
        explanation: "Copied rows and changes are brought together by key, and the old row has to hold it.",
    },
    Code {
        code: "E0607",
        title: "the copy was stopped",
        explanation: "The process is being stopped while a table is copied.",
    },
    Code {
        code: "E0608",
        title: "a task of the copy panicked",
        explanation: "A bug. Nothing of the unit was delivered.",
    },
];
