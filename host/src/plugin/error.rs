//! What can go wrong with a plugin, typed by what is to be done about it.

use crate::batch::Lsn;
use crate::problem::{Exit, Problem};
use std::fmt;
use std::time::Duration;

/// The module is no WebAssembly core module, too large, or its manifest can't be read.
pub const UNREADABLE: &str = "E0301";
/// Built for another version of the plugin ABI.
pub const ABI_VERSION: &str = "E0302";
/// Exports are missing or have another type.
pub const EXPORTS: &str = "E0303";
/// It imports what the host doesn't offer.
pub const IMPORTS: &str = "E0304";
/// It didn't compile, or not within the time limit.
pub const COMPILE: &str = "E0305";
/// It refused its configuration, or failed to start.
pub const INIT: &str = "E0306";
/// It refused a table, or declared what can't be.
pub const SCHEMA: &str = "E0307";
/// It asks for something that this version doesn't do.
pub const UNSUPPORTED: &str = "E0308";
/// Its configuration isn't what its JSON Schema asks for.
pub const CONFIG: &str = "E0309";
/// It broke while it ran.
pub const FAULT: &str = "E0310";
/// A row of which the plugin, or the host on its behalf, can't make anything.
pub const ROW: &str = "E0311";
/// It asked for the pipeline to stop.
pub const STOP: &str = "E0312";
/// It can't take up the state that is stored for it, or give the one it has.
pub const STATE: &str = "E0317";
/// It makes more rows of a batch than it may.
pub const TOO_MANY_ROWS: &str = "E0316";
/// It breaks too often.
pub const TOO_MANY_FAULTS: &str = "E0313";
/// What it breaks on wasn't found within the time for it.
pub const UNSETTLED: &str = "E0314";
/// Its configuration lets changes go by it; a warning.
pub const GOES_BY: &str = "E0315";
/// The engine itself can't be set up here.
pub const ENGINE: &str = "E0319";

/// Longest text that is taken over from a guest.
pub const GUEST_TEXT_MAX: usize = 4 * 1024;
/// Longest backtrace that is kept. Function names are the guest's, and may be 100,000 bytes long each.
const BACKTRACE_BYTES_MAX: usize = 16 * 1024;
/// Length of the part of a version hash that is shown to people.
pub const HASH_SHOWN: usize = 12;

/// Why a plugin didn't do its work.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PluginError {
    /// It was never taken up: the module or its answer to the set-up is no good.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// It broke: its instance must not be used again.
    #[error("{0}")]
    Fault(Box<Fault>),
    /// One row's own error; the plugin itself is well.
    #[error("{0}")]
    Row(Box<RowError>),
    /// It broke once more than it may, or what it breaks on can't be found.
    #[error("{0}")]
    GaveUp(Box<GaveUp>),
}

impl PluginError {
    pub(crate) fn refused(code: &'static str, headline: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Refused(Box::new(Problem::new(code, Exit::Plugin, headline, help)))
    }

    pub(crate) fn refused_because(
        code: &'static str,
        headline: impl Into<String>,
        cause: impl fmt::Display,
        help: impl Into<String>,
    ) -> Self {
        Self::Refused(Box::new(
            Problem::new(code, Exit::Plugin, headline, help).with_cause(cause),
        ))
    }

    /// As the user meets it.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Refused(problem) => (**problem).clone(),
            Self::Fault(fault) => {
                let headline = format!("plugin {} ({}) {}", fault.plugin, fault.hash, fault.kind);
                let help = "fix the plugin and put the new module in its place, then start again";
                Problem::new(FAULT, Exit::Plugin, headline, help).with_cause(fault.details())
            }
            Self::Row(error) => error.problem(),
            Self::GaveUp(gave_up) => gave_up.problem(),
        }
    }
}

/// Changes are no longer set aside one by one: more would be lost by going on than by stopping.
#[derive(Clone, Debug)]
pub struct GaveUp {
    /// The last one.
    pub fault: Box<Fault>,
    pub reason: GaveUpReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GaveUpReason {
    /// The breaker: more faults than `max_faults` within the window.
    TooManyFaults { faults: u32, window: Duration },
    /// So many rows of the batch are still to be tried when the time is over.
    TooLong { budget: Duration, rows: usize },
}

impl GaveUp {
    fn problem(&self) -> Problem {
        let plugin = &self.fault.plugin;
        let (code, headline, help) = match self.reason {
            GaveUpReason::TooManyFaults { .. } => (
                TOO_MANY_FAULTS,
                format!("plugin {plugin} ({}) breaks too often", self.fault.hash),
                "fix the plugin and put the new module in its place, then start again".to_owned(),
            ),
            GaveUpReason::TooLong { .. } => (
                UNSETTLED,
                format!(
                    "plugin {plugin} ({}) breaks on rows that can't be told",
                    self.fault.hash
                ),
                format!("fix the plugin, or raise `limits: isolation` of plugin {plugin}"),
            ),
        };
        Problem::new(code, Exit::Plugin, headline, help).with_cause(self)
    }
}

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            GaveUpReason::TooManyFaults { faults, window } => {
                let seconds = window.as_secs();
                write!(
                    f,
                    "{faults} faults within {seconds} s, more than its `max_faults`; the last: "
                )?;
            }
            GaveUpReason::TooLong { budget, rows } => write!(
                f,
                "after {budget:?} of trying, {rows} rows of a batch are still in doubt; the last fault: "
            )?,
        }
        self.fault.fmt(f)
    }
}

/// How a plugin broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// It trapped: a panic, a division by zero, a stack overflow, an access out of bounds.
    Trap,
    /// It used more CPU time than its limit, or ten times that by the wall clock.
    Timeout,
    /// It wanted more memory than its limit.
    Memory,
    /// Its reply is larger than its limit.
    Output,
    /// Its reply isn't what the ABI says.
    BadReply,
    /// Its reply does what it has not declared, or must not do.
    Breach,
    /// It answered that it failed, and that it may be tried again.
    Retryable,
    /// It answered that it failed for good.
    Fatal,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trap => "trapped",
            Self::Timeout => "ran into its time limit",
            Self::Memory => "ran into its memory limit",
            Self::Output => "gave a reply beyond its limit",
            Self::BadReply => "gave a reply that can't be read",
            Self::Breach => "broke its contract",
            Self::Retryable => "failed and may be tried again",
            Self::Fatal => "failed",
        })
    }
}

/// Which change it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowPlace {
    /// `schema.table`
    pub relation: String,
    pub commit_lsn: Lsn,
    /// The change's number in its transaction.
    pub ordinal: u64,
}

impl fmt::Display for RowPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            relation,
            commit_lsn,
            ordinal,
        } = self;
        write!(f, "{relation}, commit {commit_lsn}, change {ordinal}")
    }
}

/// A plugin broke. Holds no row values but what the plugin itself put into its panic or message: its author needs that
/// text, so it goes into logs and dead letters as it is.
#[derive(Clone, Debug)]
pub struct Fault {
    pub kind: FaultKind,
    pub plugin: String,
    /// As its manifest has it.
    pub version: Option<String>,
    /// The beginning of the module's SHA-256, in hex.
    pub hash: String,
    /// What happened, in words.
    pub message: String,
    /// The change that it worked on, where that is known.
    pub row: Option<RowPlace>,
    /// Text and place of the guest's panic.
    pub panic: Option<String>,
    /// One line per frame, innermost first.
    pub backtrace: Option<String>,
}

impl Fault {
    /// What happened in one line: message, panic, row.
    pub fn summary(&self) -> String {
        let mut text = self.message.clone();
        if let Some(panic) = &self.panic {
            text.push_str("; panic: ");
            text.push_str(panic);
        }
        if let Some(row) = &self.row {
            text.push_str(&format!("; at {row}"));
        }
        text
    }

    fn details(&self) -> String {
        let mut text = self.summary();
        if let Some(backtrace) = &self.backtrace {
            text.push('\n');
            text.push_str(backtrace);
        }
        text
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "plugin {} ({}) {}: {}",
            self.plugin,
            self.hash,
            self.kind,
            self.details()
        )
    }
}

/// Why one row can't go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowErrorKind {
    /// The plugin rejected it.
    Rejected { code: String, reason: String },
    /// The plugin asked for the pipeline to stop.
    Stop { reason: String },
    /// The plugin reads a column whose value the server didn't send, and that can't be filled in.
    Unchanged { column: String },
    /// A column whose value can't be handed to a plugin.
    Value { column: String, reason: &'static str },
    /// It left a filter's set, and its table has no key to delete it by.
    NoKey,
    /// It doesn't fit into the plugin's memory.
    TooLarge { bytes: usize },
}

/// One row's own error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowError {
    pub plugin: String,
    pub row: RowPlace,
    pub kind: RowErrorKind,
}

impl RowError {
    fn problem(&self) -> Problem {
        let table = &self.row.relation;
        let (code, help) = match &self.kind {
            RowErrorKind::Rejected { .. } => (
                ROW,
                format!("mend the row at the source, or let {} accept it", self.plugin),
            ),
            RowErrorKind::Stop { .. } => (
                STOP,
                "remove the cause that the plugin names, then start again".to_owned(),
            ),
            RowErrorKind::Unchanged { .. } | RowErrorKind::NoKey => {
                (ROW, format!("ALTER TABLE {table} REPLICA IDENTITY FULL;"))
            }
            RowErrorKind::Value { .. } => (ROW, format!("take the column out of what {} reads", self.plugin)),
            RowErrorKind::TooLarge { .. } => (ROW, format!("raise `limits: memory` of plugin {}", self.plugin)),
        };
        Problem::new(
            code,
            Exit::Plugin,
            format!("plugin {}: a row of {table} can't go on", self.plugin),
            help,
        )
        .with_cause(self)
    }
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin {}, {}: ", self.plugin, self.row)?;
        match &self.kind {
            RowErrorKind::Rejected { code, reason } => write!(f, "rejected with code {code}: {reason}"),
            RowErrorKind::Stop { reason } => write!(f, "stop: {reason}"),
            RowErrorKind::Unchanged { column } => {
                write!(
                    f,
                    "it reads column {column}, which is unchanged TOAST that the server did not send"
                )
            }
            RowErrorKind::Value { column, reason } => write!(f, "column {column}: {reason}"),
            RowErrorKind::NoKey => {
                f.write_str("the row left the filter's set, and its table has no key to delete it by")
            }
            RowErrorKind::TooLarge { bytes } => write!(f, "its {bytes} bytes don't fit into the plugin's memory"),
        }
    }
}

/// A plugin that took its rows and can't say what it keeps of them: neither may be lost, so nothing can go on.
pub(crate) fn state_not_given(plugin: &str, error: &PluginError) -> PluginError {
    let headline = format!("plugin {plugin} can't give its state");
    let help = "fix rowmill_checkpoint of the plugin and put the new module in its place, then start again";
    PluginError::refused_because(STATE, headline, error.problem(), help)
}

/// Text of a guest, fit for a log: bounded, control characters escaped.
pub(crate) fn guest_text(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(GUEST_TEXT_MAX)];
    let mut text = String::with_capacity(cut.len());
    for character in String::from_utf8_lossy(cut).chars() {
        if character.is_control() {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    if cut.len() < bytes.len() {
        text.push_str("...");
    }
    text
}

/// Lines that hold names of a guest's, each made fit for a log, all together bounded.
pub(crate) fn guest_lines(text: &str) -> String {
    let mut lines = String::new();
    for line in text.lines() {
        let line = guest_text(line.as_bytes());
        if lines.len() + line.len() > BACKTRACE_BYTES_MAX {
            lines.push_str("...");
            break;
        }
        lines.push_str(&line);
        lines.push('\n');
    }
    lines
}
