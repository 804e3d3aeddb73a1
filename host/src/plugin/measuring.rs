//! What benchmarks reach into.

use super::chain::PluginVersion;
use super::engine::Engine;
use super::error::PluginError;
use super::instance::Mode;
use super::stage::Stage;
use super::state::Kept;
use crate::batch::{Batch, Row};
use crate::config::FilterMode;
use std::sync::Arc;

/// Rows as a plugin gets them, made without calling it for them.
#[derive(Debug)]
pub struct GuestRows(Stage);

impl GuestRows {
    /// # Errors
    ///
    /// A plugin that doesn't start.
    pub fn new(engine: &Arc<Engine>, plugin: &PluginVersion) -> Result<Self, PluginError> {
        let stage = Stage::new(engine, plugin, FilterMode::Membership, Mode::Live, Kept::default())?;
        Ok(Self(stage))
    }

    /// Encodes all rows of the batch; returns the bytes.
    ///
    /// # Errors
    ///
    /// A plugin that refuses a table: it is asked once.
    pub fn encode(&mut self, batch: &Batch) -> Result<usize, PluginError> {
        self.0.encode_all(batch)
    }
}

/// A plugin's reply to a batch's rows, to be applied again and again.
#[derive(Debug)]
pub struct Reply {
    stage: Stage,
    bytes: Vec<u8>,
}

impl Reply {
    /// Calls the plugin once, with all rows of the batch. `None` where it breaks.
    ///
    /// # Errors
    ///
    /// A plugin that doesn't start, or refuses a table.
    pub fn new(engine: &Arc<Engine>, plugin: &PluginVersion, batch: &Batch) -> Result<Option<Self>, PluginError> {
        let mut stage = Stage::new(engine, plugin, FilterMode::Membership, Mode::Live, Kept::default())?;
        let bytes = stage.reply_to(batch)?;
        Ok(bytes.map(|bytes| Self { stage, bytes }))
    }

    /// Checks and applies it to those rows; what it writes is appended to the batch. Returns the rows that are left.
    pub fn apply(&mut self, rows: &[Row], batch: &mut Batch) -> usize {
        self.stage.apply_again(&self.bytes, rows, batch)
    }
}
