//! What `rowmill check` says of an audit trail.

use super::table;
use crate::batch::{Relation, ReplicaIdentity};
use crate::config;
use crate::sink::postgres::target::qualified;
use crate::sink::{Advice, Checked, SinkContext};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio_postgres::Client;

/// An update or delete tells what the row was before only where the source logs it.
pub(super) const BEFORE: &str = "E0441";

pub(in crate::sink::postgres) async fn check(
    client: &Client,
    config: &config::Audit,
    context: &SinkContext,
    relations: &[Arc<Relation>],
    checked: &mut Checked,
) {
    checked
        .refusals
        .extend(table::is_there(client, config, context).await.err());
    let partly: BTreeSet<(String, String)> = relations
        .iter()
        .filter(|relation| relation.replica_identity != ReplicaIdentity::Full)
        .map(|relation| (relation.full_name(), qualified(relation)))
        .collect();
    for (table, quoted) in partly {
        checked.advice.push(Advice {
            code: BEFORE,
            headline: format!("{table}: sink {} gets no whole row from before a change", context.sink),
            detail: "`before` of an update is empty, of a delete the key".to_owned(),
            help: format!("ALTER TABLE {quoted} REPLICA IDENTITY FULL at the source"),
        });
    }
}
