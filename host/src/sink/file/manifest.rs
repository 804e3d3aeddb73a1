//! What is durable, in a file beside the data.

use super::folder::Folder;
use crate::batch::Lsn;
use crate::problem::{Exit, Problem};
use crate::sink::{SinkContext, SinkError};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Files that the manifest lists; older ones are complete and stay where they are.
const FILES_MAX: usize = 1000;
const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) name: String,
    /// Bytes that hold whole, durable transactions.
    pub(super) length: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    version: u32,
    pipeline: String,
    sink: String,
    /// As text: it doesn't fit the integers of every reader of JSON.
    system_identifier: String,
    /// Where the last transaction ends that is in the files; none before the first.
    #[serde(serialize_with = "write_position", deserialize_with = "read_position")]
    position: Option<Lsn>,
    /// How many files there were before the current one.
    sequence: u64,
    /// In order; the last one is the current one.
    files: Vec<Part>,
}

impl Manifest {
    /// The manifest before the first row.
    pub(super) fn new(context: &SinkContext, folder: &Folder) -> Self {
        Self {
            version: VERSION,
            pipeline: context.pipeline.clone(),
            sink: context.sink.clone(),
            system_identifier: context.system_identifier.to_string(),
            position: None,
            sequence: 0,
            files: vec![Part {
                name: folder.name(0),
                length: 0,
            }],
        }
    }

    /// Reads one, whoever it belongs to.
    pub(super) fn read(text: &[u8], path: &str) -> Result<Self, SinkError> {
        let unreadable = |cause: String| {
            let headline = format!("{path} is no manifest of this version");
            let problem = Problem::new("E0422", Exit::Sink, headline, "move it and its files away");
            SinkError::from(problem.with_cause(cause))
        };
        let found: Self = serde_json::from_slice(text).map_err(|error| unreadable(error.to_string()))?;
        if found.version != VERSION {
            return Err(unreadable(format!("version {}, expected {VERSION}", found.version)));
        }
        if found.files.is_empty() {
            return Err(unreadable("it lists no file".to_owned()));
        }
        Ok(found)
    }

    /// Reads one and checks that it is of the same pipeline, sink and source as `expected`.
    pub(super) fn parse(text: &[u8], expected: &Self, path: &str) -> Result<Self, SinkError> {
        let found = Self::read(text, path)?;
        for (what, found, expected) in [
            ("pipeline", &found.pipeline, &expected.pipeline),
            ("sink", &found.sink, &expected.sink),
            ("source system", &found.system_identifier, &expected.system_identifier),
        ] {
            if found != expected {
                let headline = format!("{path} belongs to another {what}");
                let cause = format!("it is of {what} {found}, this is {what} {expected}");
                let help = "give this sink another path";
                return Err(Problem::new("E0420", Exit::Sink, headline, help)
                    .with_cause(cause)
                    .into());
            }
        }
        Ok(found)
    }

    /// Whether it is of this pipeline's sink, whatever the source.
    pub(super) fn is_of(&self, pipeline: &str, sink: &str) -> bool {
        self.pipeline == pipeline && self.sink == sink
    }

    /// The files stay; what comes next is taken for new.
    pub(super) fn forget_position(&mut self) {
        self.position = None;
    }

    pub(super) fn position(&self) -> Option<Lsn> {
        self.position
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) fn current(&self) -> &Part {
        self.files.last().expect("a manifest lists at least one file")
    }

    /// Sets the current file's length and says whether it was another before.
    pub(super) fn set_length(&mut self, length: u64) -> bool {
        let current = self.files.last_mut().expect("a manifest lists at least one file");
        std::mem::replace(&mut current.length, length) != length
    }

    /// The position never goes back: a transaction that was there before comes again without its rows.
    pub(super) fn advance(&mut self, end: Lsn) {
        self.position = self.position.max(Some(end));
    }

    /// Begins the next file.
    pub(super) fn rotate(&mut self, folder: &Folder) {
        self.sequence += 1;
        self.files.push(Part {
            name: folder.name(self.sequence),
            length: 0,
        });
        if self.files.len() > FILES_MAX {
            self.files.remove(0);
        }
    }
}

fn write_position<S: Serializer>(position: &Option<Lsn>, serializer: S) -> Result<S::Ok, S::Error> {
    position.map(|lsn| lsn.to_string()).serialize(serializer)
}

fn read_position<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Lsn>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
}
