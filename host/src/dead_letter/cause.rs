//! Why a change was set aside.

use crate::plugin::{Fault, FaultKind, RowErrorKind};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Which plugin it was, in which version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginName {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// SHA-256 of the module in hex, or its beginning.
    pub hash: String,
}

/// A row's own error, or a plugin's fault while it worked on the row. Holds no value but what the plugin itself put
/// into its reason or its panic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// `rejected`, `stop`, `unchanged`, `value`, `no_key`, `too_large`, or a fault: `trap`, `timeout`, `memory`,
    /// `bad_reply`, `output`, `breach`, `retryable`, `fatal`.
    pub kind: String,
    /// The code of a rejection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panic: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backtrace: Option<String>,
}

impl Cause {
    pub fn new(kind: &str, message: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            code: None,
            message: message.into(),
            panic: None,
            backtrace: None,
        }
    }
}

impl From<&RowErrorKind> for Cause {
    fn from(kind: &RowErrorKind) -> Self {
        match kind {
            RowErrorKind::Rejected { code, reason } => Self {
                code: Some(code.clone()),
                ..Self::new("rejected", reason)
            },
            RowErrorKind::Stop { reason } => Self::new("stop", reason),
            RowErrorKind::Unchanged { column } => Self::new(
                "unchanged",
                format!("it reads column {column}, which is unchanged TOAST that the server did not send"),
            ),
            RowErrorKind::Value { column, reason } => Self::new("value", format!("column {column}: {reason}")),
            RowErrorKind::NoKey => Self::new(
                "no_key",
                "the row left the filter's set, and its table has no key to delete it by",
            ),
            RowErrorKind::TooLarge { bytes } => Self::new(
                "too_large",
                format!("its {bytes} bytes don't fit into the plugin's memory"),
            ),
        }
    }
}

impl From<&Fault> for Cause {
    fn from(fault: &Fault) -> Self {
        let kind = match fault.kind {
            FaultKind::Trap => "trap",
            FaultKind::Timeout => "timeout",
            FaultKind::Memory => "memory",
            FaultKind::BadReply => "bad_reply",
            FaultKind::Output => "output",
            FaultKind::Breach => "breach",
            FaultKind::Retryable => "retryable",
            FaultKind::Fatal => "fatal",
        };
        Self {
            panic: fault.panic.clone(),
            backtrace: fault.backtrace.clone(),
            ..Self::new(kind, &fault.message)
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        write!(f, ": {}", self.message)
    }
}
