//! What can be wrong with dead letters.

use crate::problem::Code;

pub const FULL: &str = "E0801";
pub const BEHIND: &str = "E0802";
pub const DAMAGED: &str = "E0803";
pub const DISK: &str = "E0804";
pub const SUPERSEDED: &str = "E0805";
pub const UNKNOWN: &str = "E0806";
pub const BUSY: &str = "E0807";
pub const NEWER: &str = "E0808";
pub const NO_ROW: &str = "E0809";

pub const CODES: &[Code] = &[
    Code {
        code: FULL,
        title: "the dead-letter store is full",
        explanation: "A change can't go on and there is no room to set it aside: its quota (`dead_letters: quota`) is \
                      used up. The pipeline stops rather than losing it; nothing of it was acknowledged. Replay or drop \
                      letters, or raise the quota.",
    },
    Code {
        code: BEHIND,
        title: "too many changes wait behind a dead letter",
        explanation: "Later changes of a key wait behind the letter of an earlier one, so that none overtakes it. Of \
                      this table more of them wait than `dead_letters: max_behind` allows. Replay the letters once the \
                      plugin is mended, or drop them: the request is taken up at the next start.",
    },
    Code {
        code: DAMAGED,
        title: "the dead-letter store is damaged",
        explanation: "What was made durable isn't what is read now: the disk, or somebody's editor. What a crash leaves \
                      half-written is no damage and is cut off by itself.",
    },
    Code {
        code: DISK,
        title: "the dead-letter store can't be read or written",
        explanation: "The disk is full or reports an error. The pipeline stops rather than losing a row; nothing that \
                      wasn't stored was acknowledged.",
    },
    Code {
        code: SUPERSEDED,
        title: "a later change of the key was delivered",
        explanation: "Sending the letter now would put an older row over a newer one, or bring rows back into a table \
                      that was truncated since. `--force` sends it all the same.",
    },
    Code {
        code: UNKNOWN,
        title: "no such dead letter",
        explanation: "It was replayed, dropped or has expired, or it never was. `rowmill dead-letter list` shows those \
                      that are there. Of `rowmill dead-letter add`: a change that can't be set aside, for the cause that is named.",
    },
    Code {
        code: BUSY,
        title: "the dead letter is being sent again",
        explanation: "It is on its way to the sinks. Whether it got there is known in a moment.",
    },
    Code {
        code: NEWER,
        title: "the dead-letter store is of another version or pipeline",
        explanation: "It was written by a newer version, or for a pipeline of another name. Nothing is guessed about it.",
    },
    Code {
        code: NO_ROW,
        title: "what was refused is no row",
        explanation: "A plugin rejected a logical message or a truncate, or broke on it. Those have no key and no row that \
                      could be set aside; a truncate that is left out would leave rows behind. The pipeline stops \
                      rather than losing it, unless the plugin's policies say `drop`, `pass` or `bypass`.",
    },
];
