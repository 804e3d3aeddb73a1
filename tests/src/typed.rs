//! Postgres as the oracle of the SDK's tests: a session that answers in text.

use crate::Cluster;
use std::fmt::Debug;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// As the host pins them in its sessions; but for the order of day and month, which ISO doesn't depend on.
const SETTINGS: &str = "SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC';
    SET extra_float_digits = 3; SET bytea_output = 'hex'; SELECT setseed(0.4711);
    CREATE FUNCTION pg_temp.below(double precision) RETURNS double precision LANGUAGE sql
    AS $$ SELECT floor(random() * $1) $$;";

/// A session of a private server, with the host's settings.
pub struct Oracle {
    runtime: tokio::runtime::Runtime,
    client: Client,
    _cluster: Cluster,
}

impl Oracle {
    pub fn start() -> Self {
        let cluster = Cluster::start().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&cluster.url("postgres"), NoTls).await.unwrap();
            tokio::spawn(connection);
            client
        });
        let oracle = Self {
            runtime,
            client,
            _cluster: cluster,
        };
        oracle.rows(SETTINGS);
        oracle
    }

    /// The rows of the last query, each value as text; `None` is NULL.
    pub fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let messages = self.runtime.block_on(self.client.simple_query(sql));
        let messages = messages.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        messages
            .into_iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()),
                _ => None,
            })
            .collect()
    }

    /// Values of a type: those of the list, and what the expression makes, many times; as text and, in the columns
    /// behind it, as `of` says of each.
    pub fn values(&self, kind: &str, list: &[&str], random: &str, of: &str) -> Vec<Vec<Option<String>>> {
        let list = list.iter().map(|text| format!("('{}')", text.replace('\'', "''")));
        let list = list.collect::<Vec<_>>().join(",");
        let rows = self.rows(&format!(
            "SELECT v, {of} FROM (
                 SELECT column1::{kind} AS v FROM (VALUES {list}) AS listed
                 UNION ALL SELECT ({random})::{kind} FROM generate_series(1, 2000) n) made
             ORDER BY made.v"
        ));
        assert!(rows.len() > 2000);
        rows
    }
}

/// A cell as a number; `None` where it is NULL.
pub fn number<T: std::str::FromStr<Err: Debug>>(cell: &Option<String>) -> Option<T> {
    cell.as_ref()
        .map(|text| text.parse().unwrap_or_else(|error| panic!("{text}: {error:?}")))
}
