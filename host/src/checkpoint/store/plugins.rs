//! What is known of a plugin's versions: which ran well, and which one must not be taken up again.

use super::failure::Failure;
use super::format::{self, CHAINS, CONFIG_KEY_DOCUMENT, NUMBERS, POSITION, decode, encode};
use super::{ChainVersion, PluginRecord, RanVersion, SetAside, StateStore, chains};
use crate::batch::Lsn;
use crate::problem::Problem;
use redb::{ReadableTable, WriteTransaction};

/// Versions of a plugin that can be gone back to.
const KEPT: usize = 4;

impl StateStore {
    pub fn plugin_record(&self, plugin: &str) -> Result<PluginRecord, Problem> {
        self.read(|transaction| Ok(format::document(transaction, &name(plugin))?.unwrap_or_default()))
    }

    pub fn put_plugin_record(&self, plugin: &str, record: &PluginRecord) -> Result<(), Problem> {
        self.write(|transaction| format::put_document(transaction, &name(plugin), record))
    }

    /// The secret under which hashes of configurations are made; `fresh` becomes it where there is none.
    pub fn config_key(&self, fresh: [u8; 32]) -> Result<[u8; 32], Problem> {
        if let Some(key) = self.read(|transaction| format::document(transaction, CONFIG_KEY_DOCUMENT))? {
            return Ok(key);
        }
        self.write(|transaction| format::put_document(transaction, CONFIG_KEY_DOCUMENT, &fresh))?;
        Ok(fresh)
    }

    /// The version of `route` that counts from `from` on has passed its probation: its plugins can be gone back to.
    pub fn settle_chain(&self, route: &str, from: Lsn, since: u64) -> Result<(), Problem> {
        self.write(|transaction| {
            let stored = {
                let mut chains = transaction.open_table(CHAINS)?;
                let stored = chains
                    .get((route, from.0))?
                    .map(|stored| decode::<ChainVersion>(stored.value()));
                let Some(version) = stored.transpose()? else {
                    return Ok(());
                };
                let settled = ChainVersion {
                    fallback: None,
                    ..version
                };
                chains.insert((route, from.0), encode(&settled)?.as_slice())?;
                settled
            };
            ran(transaction, &stored, since)
        })
    }

    /// From the transaction that commits at `from` on, `route` is back at `version`; what broke is set aside.
    pub fn roll_back_chain(
        &self,
        route: &str,
        from: Lsn,
        version: &ChainVersion,
        set_aside: &[SetAside],
    ) -> Result<(), Problem> {
        self.write(|transaction| {
            transaction
                .open_table(CHAINS)?
                .insert((route, from.0), encode(version)?.as_slice())?;
            for aside in set_aside {
                let name = name(&aside.version.name);
                let mut record: PluginRecord = read(transaction, &name)?.unwrap_or_default();
                record.set_aside = Some(aside.clone());
                format::put_document(transaction, &name, &record)?;
            }
            Ok(())
        })
    }

    /// From the transaction that commits at `from` on, `route` is transformed by `version`. What no replay can need any
    /// more goes with it, and a version without probation can be gone back to at once.
    pub fn begin_chain(&self, route: &str, from: Lsn, version: &ChainVersion, since: u64) -> Result<(), Problem> {
        self.write(|transaction| {
            let position = transaction
                .open_table(NUMBERS)?
                .get(POSITION)?
                .map_or(0, |stored| stored.value());
            {
                let mut chains = transaction.open_table(CHAINS)?;
                chains.insert((route, from.0), encode(version)?.as_slice())?;
                chains::prune(&mut chains, route, Lsn(position))?;
            }
            match &version.fallback {
                Some(_) => Ok(()),
                None => ran(transaction, version, since),
            }
        })
    }
}

pub(super) fn ran(transaction: &WriteTransaction, version: &ChainVersion, since: u64) -> Result<(), Failure> {
    for version in &version.plugins {
        let name = name(&version.name);
        let mut record: PluginRecord = read(transaction, &name)?.unwrap_or_default();
        if record.good.last().is_some_and(|last| last.version.is_same(version)) {
            continue;
        }
        let version = version.clone();
        record.good.push(RanVersion { version, since });
        let over = record.good.len().saturating_sub(KEPT);
        record.good.drain(..over);
        format::put_document(transaction, &name, &record)?;
    }
    Ok(())
}

fn read(transaction: &WriteTransaction, name: &str) -> Result<Option<PluginRecord>, Failure> {
    let documents = transaction.open_table(format::DOCUMENTS)?;
    let stored = documents.get(name)?.map(|stored| decode(stored.value()));
    stored.transpose()
}

fn name(plugin: &str) -> String {
    format!("plugin:{plugin}")
}
