//! What the tests of this folder share: connections to private clusters, and a look at what must not change.

use crate::config::TablePattern;
use rowmill_tests::Cluster;
use tokio_postgres::{Client, NoTls};

pub(super) async fn connect(cluster: &Cluster, role: &str, database: &str) -> Client {
    let url = cluster.url(database).replace("postgres@", &format!("{role}@"));
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    // As the connections of the pipeline have it: every name must be found without it.
    client.batch_execute("SET search_path = ''").await.unwrap();
    client
}

/// `schema.table` as pipeline.yaml has it.
pub(super) fn patterns(names: &[&str]) -> Vec<TablePattern> {
    names
        .iter()
        .map(|name| {
            let (schema, table) = name.split_once('.').unwrap();
            TablePattern {
                schema: schema.into(),
                table: table.into(),
            }
        })
        .collect()
}

/// Everything on the server that looking must leave alone.
pub(super) fn fingerprint(cluster: &Cluster, database: &str) -> String {
    let sql = "SELECT (SELECT string_agg(slot_name::text || coalesce(confirmed_flush_lsn::text, ''), ',' ORDER BY slot_name)
                       FROM pg_replication_slots),
                      (SELECT string_agg(p::text, ',' ORDER BY p.oid) FROM pg_publication p),
                      (SELECT string_agg(r::text, ',' ORDER BY r.oid) FROM pg_publication_rel r),
                      (SELECT string_agg(oid::text || relreplident::text || coalesce(relacl::text, ''), ',' ORDER BY oid)
                       FROM pg_class),
                      (SELECT string_agg(rolname::text || rolreplication::text, ',' ORDER BY oid) FROM pg_roles)";
    cluster.sql(database, sql).unwrap()
}
