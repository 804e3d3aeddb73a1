//! What authors of plugins work with: golden samples, cuts of batches, the conformance suite, measurements.
//!
//! All of it runs the real module in the real host: the same [`Chain`] that a lane has.

mod codes;
pub mod conform;
pub mod cuts;
pub mod golden;
pub mod live;
pub mod measure;
pub mod record;
pub mod samples;
pub mod sections;

use crate::batch::{Batch, Row};
use crate::config::{ByteSize, Duration, FilterMode, Limits, OnError, OnFault, Policies, ROWS_DEFAULT};
use crate::plugin::{Aside, Chain, Engine, Kept, Mode, PluginError, PluginVersion, Processed};
use std::sync::Arc;

pub use codes::CODES;

/// The limits that a plugin has where pipeline.yaml gives none.
pub const DEFAULT_LIMITS: Limits = Limits {
    memory: ByteSize::mib(64),
    time: Duration::from_secs(1),
    output: ByteSize::mib(64),
    module: ByteSize::mib(16),
    compile_time: Duration::from_secs(30),
    isolation: Duration::from_secs(30),
    rows: ROWS_DEFAULT,
    kv: Some(ByteSize(64 << 20)),
};

/// An author wants to see what goes wrong, rather than what becomes of it. A rejected row leaves its batch, so that a
/// plugin with state meets the others once.
const STRICT: Policies = Policies {
    on_error: OnError::DeadLetter,
    on_fault: OnFault::Stop,
    max_faults: u32::MAX,
};

/// A plugin's code with its configuration, ready to be started as often as needed.
#[derive(Clone, Debug)]
pub struct Subject {
    engine: Arc<Engine>,
    mode: Mode,
    pub version: PluginVersion,
}

impl Subject {
    /// # Errors
    ///
    /// A module that is refused.
    pub fn new(
        engine: &Arc<Engine>,
        name: &str,
        bytes: &[u8],
        config: serde_json::Value,
        limits: Limits,
    ) -> Result<Self, PluginError> {
        let version = PluginVersion {
            name: name.to_owned(),
            module: engine.load(bytes, &limits)?,
            config,
            limits,
            policies: STRICT,
        };
        Ok(Self {
            engine: Arc::clone(engine),
            mode: Mode::Test,
            version,
        })
    }

    /// A version of a pipeline's plugin, to be tried: each of its faults is final.
    pub fn candidate(engine: &Arc<Engine>, version: PluginVersion) -> Self {
        Self {
            engine: Arc::clone(engine),
            mode: Mode::Candidate,
            version: PluginVersion {
                policies: STRICT,
                ..version
            },
        }
    }

    /// A new instance.
    ///
    /// # Errors
    ///
    /// One that refuses its configuration, or breaks while it starts.
    pub fn start(&self) -> Result<Chain, PluginError> {
        self.resume(Kept::default())
    }

    /// A new instance that goes on with what another one has kept.
    ///
    /// # Errors
    ///
    /// One that can't take it up, too.
    pub fn resume(&self, kept: Kept) -> Result<Chain, PluginError> {
        Chain::with_kept(
            &self.engine,
            std::slice::from_ref(&self.version),
            FilterMode::Membership,
            self.mode,
            vec![kept],
        )
    }

    /// A new one as a pipeline runs it: divided by key where it asks for that.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_divided(&self) -> Result<Chain, PluginError> {
        let plugins = std::slice::from_ref(&self.version);
        Chain::for_lane(&self.engine, plugins, FilterMode::Membership, self.mode, 1, Vec::new())
    }

    /// The same code with another configuration.
    pub fn with_config(&self, config: serde_json::Value) -> Self {
        let mut other = self.clone();
        other.version.config = config;
        other
    }
}

/// Takes rows through a chain of which each fault is final. Gives the changes that it rejects.
pub(crate) fn process(chain: &mut Chain, batch: &mut Batch, rows: &mut Vec<Row>) -> Result<Vec<Aside>, PluginError> {
    let mut processed = Processed::default();
    chain.process(batch, rows, &mut processed)?;
    Ok(processed.aside)
}
