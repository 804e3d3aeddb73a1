//! Which version of a route's plugin chain transforms which transactions.
//!
//! "Chain X from commit Y" is stored before X's first output reaches a sink. After a restart the stream is replayed
//! from the acknowledged position, and each transaction goes through the version that it had before.

use super::failure::Failure;
use super::format::{CHAINS, decode};
use super::{ChainVersion, StateStore};
use crate::batch::Lsn;
use crate::problem::Problem;
use redb::{ReadTransaction, ReadableTable};
use std::collections::HashSet;

impl StateStore {
    /// The versions of `route` with the commit that each holds from, oldest first.
    pub fn chain_versions(&self, route: &str) -> Result<Vec<(Lsn, ChainVersion)>, Problem> {
        self.read(|transaction| versions(transaction, route))
    }

    /// The modules of all recorded versions, of routes that aren't in the file any more too; hashes in hex.
    pub fn recorded_modules(&self) -> Result<HashSet<String>, Problem> {
        self.read(|transaction| {
            let mut modules = HashSet::new();
            for entry in transaction.open_table(CHAINS)?.iter()? {
                let version: ChainVersion = decode(entry?.1.value())?;
                let given_way = version.fallback.into_iter().flatten();
                let plugins = version.plugins.into_iter().chain(given_way);
                modules.extend(plugins.map(|plugin| plugin.module));
            }
            Ok(modules)
        })
    }
}

/// Forgets the versions of `route` that no replay can need: those before the newest one at or below `acknowledged`.
pub(super) fn prune(
    chains: &mut redb::Table<'_, (&str, u64), &[u8]>,
    route: &str,
    acknowledged: Lsn,
) -> Result<(), Failure> {
    let newest = match chains.range((route, 0)..=(route, acknowledged.0))?.next_back() {
        Some(entry) => entry?.0.value().1,
        None => return Ok(()),
    };
    chains.retain_in((route, 0)..(route, newest), |_, _| false)?;
    Ok(())
}

pub(super) fn versions(transaction: &ReadTransaction, route: &str) -> Result<Vec<(Lsn, ChainVersion)>, Failure> {
    let chains = transaction.open_table(CHAINS)?;
    let mut versions = Vec::new();
    for entry in chains.range((route, 0)..=(route, u64::MAX))? {
        let (key, value) = entry?;
        versions.push((Lsn(key.value().1), decode(value.value())?));
    }
    Ok(versions)
}
