//! The state as `rowmill status --output json` shows it. Key ranges and configs stay out of it.

use super::failure::Failure;
use super::format::{self, CHAINS, IDENTITY_DOCUMENT, ROUTE_COLUMNS};
use super::{Identity, StateStore, copies};
use crate::batch::Lsn;
use crate::problem::Problem;
use redb::{ReadTransaction, ReadableTable};
use serde_json::{Value, json};

impl StateStore {
    /// The whole state from one moment. 64-bit numbers are texts, since many JSON readers round them.
    pub fn summary(&self) -> Result<Value, Problem> {
        self.read(|transaction| {
            Ok(json!({
                "format": format::FORMAT,
                "pipeline": self.shared.pipeline,
                "identity": identity(transaction)?,
                "position": super::position(transaction)?.map(|lsn| lsn.to_string()),
                "copies": copies_summary(transaction)?,
                "chains": chains(transaction)?,
                "route_columns": route_columns(transaction)?,
                "plugin_states": plugin_states(transaction)?,
                "plugin_entries": super::plugin_states::entry_counts(transaction)?,
            }))
        })
    }
}

fn identity(transaction: &ReadTransaction) -> Result<Option<Value>, Failure> {
    let identity: Option<Identity> = format::document(transaction, IDENTITY_DOCUMENT)?;
    Ok(identity.map(|identity| {
        json!({
            "system_identifier": identity.system_identifier.to_string(),
            "timeline": identity.timeline,
            "database": identity.database,
            "slot": identity.slot,
            "publication": identity.publication,
        })
    }))
}

fn copies_summary(transaction: &ReadTransaction) -> Result<Vec<Value>, Failure> {
    let mut summary = Vec::new();
    for copy in copies::copies(transaction)? {
        let ranges = copies::ranges(transaction, copy.table_oid)?;
        let sum = |of: fn(&super::CopiedRange) -> u64| ranges.iter().map(of).sum::<u64>();
        summary.push(json!({
            "table": copy.table,
            "table_oid": copy.table_oid,
            "epoch": copy.epoch,
            "state": copy.state,
            "units_copied": sum(|range| range.units),
            "rows_copied": sum(|range| range.rows),
        }));
    }
    Ok(summary)
}

fn chains(transaction: &ReadTransaction) -> Result<Vec<Value>, Failure> {
    let mut summary = Vec::new();
    for entry in transaction.open_table(CHAINS)?.iter()? {
        let (key, value) = entry?;
        let (route, from) = key.value();
        let version: super::ChainVersion = format::decode(value.value())?;
        summary.push(json!({ "route": route, "from": Lsn(from).to_string(), "plugins": version.plugins }));
    }
    Ok(summary)
}

/// Sizes and ages; the bytes are the plugin's own.
fn plugin_states(transaction: &ReadTransaction) -> Result<Vec<Value>, Failure> {
    let states = super::plugin_states::states(transaction)?;
    let shown = states.into_iter().map(|stored| {
        let state = &stored.state;
        json!({
            "route": state.route,
            "plugin": state.plugin,
            "shard": state.shard,
            "version": state.version,
            "bytes": state.bytes.len(),
            "position": stored.position.to_string(),
            "stored_ms": stored.stored_ms,
        })
    });
    Ok(shown.collect())
}

fn route_columns(transaction: &ReadTransaction) -> Result<Vec<Value>, Failure> {
    let mut summary = Vec::new();
    for entry in transaction.open_table(ROUTE_COLUMNS)?.iter()? {
        let (key, value) = entry?;
        let (route, table) = key.value();
        let columns: Vec<String> = format::decode(value.value())?;
        summary.push(json!({ "route": route, "table": table, "columns": columns }));
    }
    Ok(summary)
}
