//! The routes that there were, by the names under which what belongs to them is stored.

use super::format::{self, CHAINS, KNOWN_ROUTES_DOCUMENT, encode};
use super::{ChainVersion, StateStore, plugins};
use crate::batch::Lsn;
use crate::problem::Problem;
use serde::{Deserialize, Serialize};

/// What a route was when a session with it began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownRoute {
    /// Its versions, what its plugins keep and its letters are stored under this.
    pub name: String,
    /// As [`crate::pipeline::route_key`] has them.
    pub tables: String,
    pub plugins: Vec<String>,
    pub sinks: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// Whether the last session had it.
    pub is_there: bool,
}

impl StateStore {
    /// Every route that a session has had; none where no session has noted any yet.
    pub fn known_routes(&self) -> Result<Vec<KnownRoute>, Problem> {
        let known = self.read(|transaction| format::document(transaction, KNOWN_ROUTES_DOCUMENT))?;
        Ok(known.unwrap_or_default())
    }

    pub fn set_known_routes(&self, routes: &[KnownRoute]) -> Result<(), Problem> {
        self.write(|transaction| format::put_document(transaction, KNOWN_ROUTES_DOCUMENT, routes))
    }

    /// Everything that commits at `from` or later meets `version` of `route`, whatever was recorded before.
    pub fn restart_chain(&self, route: &str, from: Lsn, version: &ChainVersion, since: u64) -> Result<(), Problem> {
        self.write(|transaction| {
            let mut chains = transaction.open_table(CHAINS)?;
            chains.retain_in((route, 0)..=(route, u64::MAX), |_, _| false)?;
            chains.insert((route, from.0), encode(version)?.as_slice())?;
            plugins::ran(transaction, version, since)
        })
    }
}
