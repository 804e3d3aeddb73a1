//! What can be wrong with state and positions.

use crate::problem::Code;

/// Every code with what it means, for docs/reference/errors.md.
pub const CODES: &[Code] = &[
    Code {
        code: "E0501",
        title: "another host holds the state",
        explanation: "One process at a time works in a state folder. The cause names it.",
    },
    Code {
        code: "E0502",
        title: "the state folder can't be used",
        explanation: "It can't be made, or belongs to somebody else. It is kept for its owner alone (mode 0700).",
    },
    Code {
        code: "E0503",
        title: "the state has a newer format",
        explanation: "It was written by a newer version. An older one never guesses what it means.",
    },
    Code {
        code: "E0504",
        title: "the state belongs to another pipeline",
        explanation: "Every pipeline has a state folder of its own: `.rowmill/NAME` unless `state_dir` says \
                      otherwise.",
    },
    Code {
        code: "E0505",
        title: "the state is damaged",
        explanation: "Its checksums don't fit. Without it the stream goes on at the slot's own position, which is \
                      never too far, and the tables are copied anew.",
    },
    Code {
        code: "E0506",
        title: "no room for the state",
        explanation: "The disk is full. Nothing that wasn't stored was acknowledged, so nothing is lost.",
    },
    Code {
        code: "E0507",
        title: "the state can't be read or written",
        explanation: "The disk reports an error. Nothing that wasn't stored was acknowledged.",
    },
    Code {
        code: "E0510",
        title: "a gap: the slot is ahead of the state",
        explanation: "Something has moved the slot on beyond what was delivered. The changes in between are not sent \
                      again by the server, so the tables have to be copied anew.",
    },
    Code {
        code: "E0511",
        title: "another cluster than the state belongs to",
        explanation: "The system identifier differs: the connection string names another server, or this one was made \
                      anew.",
    },
    Code {
        code: "E0512",
        title: "a gap: the position is beyond the server's WAL",
        explanation: "The server was restored from a backup, or a standby that had less was promoted. What was \
                      delivered may never have happened there. A sink's position counts as well, as its target or \
                      manifest has it: whatever commits below it would be taken for what is there already.",
    },
    Code {
        code: "E0513",
        title: "a gap: the slot is gone",
        explanation: "The state has a position in a slot that is not there any more, so changes since then may be \
                      missing.",
    },
    Code {
        code: "E0514",
        title: "a gap: the slot is lost",
        explanation: "The server has removed WAL that the slot stood for, mostly because of `max_slot_wal_keep_size`.",
    },
    Code {
        code: "E0515",
        title: "another database than the state belongs to",
        explanation: "A slot and its positions belong to one database.",
    },
    Code {
        code: "E0516",
        title: "the slot belongs to something else",
        explanation: "It decodes with another plugin, or belongs to another database.",
    },
    Code {
        code: "E0517",
        title: "a gap: the timelines part before the position",
        explanation: "The server was promoted, or restored, at an earlier point than what was delivered. A sink's position \
                      counts as well, as its target or manifest has it: whatever commits below it on the new timeline would \
                      be taken for what is there already.",
    },
    Code {
        code: "E0518",
        title: "a gap: the server is a copy with another history",
        explanation: "It has the system identifier, the timeline and the slot of the server that the state belongs to, and \
                      other transactions before our position: a restored volume or a clone that has been written to. \
                      Is the server that it was still there, name that in `source.postgres.url` instead.",
    },
];
