//! What benchmarks reach into.

use super::chain::PluginVersion;
use super::engine::Engine;
use super::error::PluginError;
use super::instance::Mode;
use super::stage::Stage;
use super::state::Kept;
use crate::batch::Batch;
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
