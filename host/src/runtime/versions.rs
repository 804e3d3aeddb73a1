//! What a version of a plugin is, as it is recorded: the module's hash, and its configuration without its secrets.

use super::modules::Taken;
use crate::checkpoint::{self, StateStore};
use crate::config::Limits;
use crate::problem::Problem;
use sha2::{Digest, Sha256};
use std::io::Read;

/// Under which configurations are hashed: without it a stored hash would let short secrets be guessed.
pub(super) struct ConfigKey([u8; 32]);

impl ConfigKey {
    pub(super) fn of(state: &StateStore) -> Result<Self, Box<Problem>> {
        let mut fresh = [0; 32];
        let random = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut fresh));
        random.map_err(|error| Box::new(super::failure::bug(&format!("/dev/urandom: {error}"))))?;
        state.config_key(fresh).map(Self).map_err(Box::new)
    }

    /// In hex. The inner hash closes the outer one against being extended, as in HMAC.
    pub(super) fn hash(&self, config: &serde_json::Value) -> String {
        let inner = Sha256::new().chain_update(self.0).chain_update(config.to_string());
        let outer = Sha256::new().chain_update(self.0).chain_update(inner.finalize());
        outer.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(super) fn version(&self, taken: &Taken) -> checkpoint::PluginVersion {
        checkpoint::PluginVersion {
            name: taken.plugin.name.clone(),
            module: taken.module.hash_hex().to_owned(),
            config: self.hash(&taken.plugin.config),
            written: taken.plugin.written.clone(),
            limits: serde_json::to_value(taken.plugin.limits).unwrap_or_default(),
        }
    }
}

/// The limits that a version was recorded with; `None` where an earlier release recorded none.
pub(super) fn limits_of(version: &checkpoint::PluginVersion) -> Option<Limits> {
    serde_json::from_value(version.limits.clone()).ok()
}
