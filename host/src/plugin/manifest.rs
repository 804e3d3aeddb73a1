//! What a module says about itself in its custom section `rowmill.plugin`.

use super::cursor::{BadReply, Cursor, Scalar};
use rowmill_abi::manifest as key;

/// Feature: entries by key.
pub(crate) const FEATURE_KV: &str = "kv";
pub(crate) const SCOPE_NONE: &str = "none";
/// It keeps of each row what follows from the row's own changes.
pub(crate) const SCOPE_KEY: &str = "key";
pub(crate) const SCOPES: [&str; 3] = [SCOPE_NONE, SCOPE_KEY, "whole"];

/// What a plugin does with rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Says which rows match.
    Filter,
    /// Changes rows.
    Transform,
}

/// The manifest. A module without one gets the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Major and minor version of the ABI it was built for, where it says.
    pub abi: Option<i32>,
    /// The oldest minor version of the host that it works with.
    pub min_minor: Option<u16>,
    pub name: Option<String>,
    pub version: Option<String>,
    /// A transform unless it says otherwise.
    pub kind: Kind,
    pub features: Vec<String>,
    /// JSON Schema of its configuration.
    pub config_schema: Option<String>,
    pub state_version: u32,
    /// `none`, `key` or `whole`.
    pub state_scope: String,
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            abi: None,
            min_minor: None,
            name: None,
            version: None,
            kind: Kind::Transform,
            features: Vec::new(),
            config_schema: None,
            state_version: 0,
            state_scope: SCOPE_NONE.to_owned(),
        }
    }
}

impl Manifest {
    /// Whether the plugin keeps something from row to row.
    pub fn keeps_state(&self) -> bool {
        self.has_state() || self.has_entries()
    }

    /// Whether it gives its state in a checkpoint.
    pub fn has_state(&self) -> bool {
        self.state_scope != SCOPE_NONE
    }

    /// Whether what it keeps of a row follows from the row's own changes.
    pub fn is_by_key(&self) -> bool {
        self.state_scope == SCOPE_KEY
    }

    /// Whether the host keeps entries by key for it.
    pub fn has_entries(&self) -> bool {
        self.features.iter().any(|feature| feature == FEATURE_KV)
    }

    /// Reads the section. Unknown keys are passed over, so that a newer SDK's manifest can be read.
    pub(crate) fn parse(section: &[u8]) -> Result<Self, BadReply> {
        let mut manifest = Self::default();
        let mut cursor = Cursor::new(section);
        for _ in 0..cursor.map()? {
            let name = cursor.str()?;
            let start = cursor;
            match name {
                key::ABI => manifest.abi = Some(cursor.index(i32::MAX as usize)? as i32),
                key::MIN_MINOR => {
                    if !cursor.nil() {
                        manifest.min_minor = Some(cursor.index(usize::from(u16::MAX))? as u16);
                    }
                }
                key::NAME => manifest.name = text(&mut cursor)?,
                key::VERSION => manifest.version = text(&mut cursor)?,
                key::KIND => {
                    manifest.kind = match cursor.str()? {
                        key::KIND_FILTER => Kind::Filter,
                        key::KIND_TRANSFORM => Kind::Transform,
                        _ => return start.bad("a kind that is neither `filter` nor `transform`"),
                    }
                }
                key::FEATURES => {
                    for _ in 0..cursor.array()? {
                        manifest.features.push(cursor.str()?.to_owned());
                    }
                }
                key::CONFIG_SCHEMA => manifest.config_schema = text(&mut cursor)?,
                key::STATE_VERSION => manifest.state_version = cursor.index(i32::MAX as usize)? as u32,
                key::STATE_SCOPE => manifest.state_scope = text(&mut cursor)?.unwrap_or_else(|| SCOPE_NONE.to_owned()),
                _ => cursor.skip()?,
            }
        }
        cursor.finish()?;
        Ok(manifest)
    }
}

fn text(cursor: &mut Cursor<'_>) -> Result<Option<String>, BadReply> {
    let start = *cursor;
    match cursor.scalar()? {
        Scalar::Nil => Ok(None),
        Scalar::Str(text) => Ok(Some(text.to_owned())),
        _ => start.bad("a string or nil was expected"),
    }
}
