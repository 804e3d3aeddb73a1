//! Facts about the server and the role, read in one query.

use crate::problem::Problem;
use crate::source::failure::refused;
use tokio_postgres::Client;

/// Facts about the server and the role that asks.
#[derive(Clone, Debug)]
pub struct Server {
    /// `server_version_num`, e.g. 150018.
    pub version: i32,
    pub version_text: String,
    pub wal_level: String,
    pub in_recovery: bool,
    pub role: String,
    /// As SQL writes it.
    pub role_sql: String,
    pub may_replicate: bool,
    pub superuser: bool,
    /// May create publications in this database, as far as the database goes.
    pub may_create: bool,
    pub database: String,
    pub encoding: String,
    pub max_replication_slots: i64,
    pub replication_slots: i64,
    pub max_wal_senders: i64,
    pub wal_senders: i64,
    /// As `SHOW` writes it; `-1` without a limit, empty before version 13.
    pub max_slot_wal_keep_size: String,
}

/// Whose server it is, where that changes what a user can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    Neon,
    Rds,
    Other,
}

impl Provider {
    pub fn of(host: Option<&str>) -> Self {
        match host.map(|host| host.trim_end_matches('.').to_ascii_lowercase()) {
            Some(host) if host.ends_with(".neon.tech") => Self::Neon,
            Some(host) if host.ends_with(".rds.amazonaws.com") => Self::Rds,
            _ => Self::Other,
        }
    }
}

/// On RDS no role has REPLICATION; members of `rds_replication` may replicate nevertheless.
const SERVER: &str = r"
SELECT current_setting('server_version_num')::int AS version, current_setting('server_version') AS version_text,
       current_setting('wal_level') AS wal_level, pg_is_in_recovery() AS in_recovery,
       current_user::text AS role, quote_ident(current_user) AS role_sql,
       r.rolsuper OR r.rolreplication OR EXISTS (
           SELECT FROM pg_catalog.pg_roles g
           WHERE g.rolname = 'rds_replication' AND pg_has_role(r.oid, g.oid, 'MEMBER')
       ) AS may_replicate,
       r.rolsuper AS superuser, has_database_privilege(current_database(), 'CREATE') AS may_create,
       current_database()::text AS database,
       (SELECT pg_encoding_to_char(encoding)::text FROM pg_catalog.pg_database WHERE datname = current_database())
           AS encoding,
       current_setting('max_replication_slots')::bigint AS max_slots,
       (SELECT count(*) FROM pg_catalog.pg_replication_slots) AS slots,
       current_setting('max_wal_senders')::bigint AS max_senders,
       (SELECT count(*) FROM pg_catalog.pg_stat_replication) AS senders,
       COALESCE(current_setting('max_slot_wal_keep_size', true), '') AS keep_size
FROM pg_catalog.pg_roles r WHERE r.rolname = current_user";

pub(super) async fn read(client: &Client) -> Result<Server, Box<Problem>> {
    let row = client
        .query_typed_one(SERVER, &[])
        .await
        .map_err(|error| refused("read the settings of the source", &error))?;
    Ok(Server {
        version: row.get("version"),
        version_text: row.get("version_text"),
        wal_level: row.get("wal_level"),
        in_recovery: row.get("in_recovery"),
        role: row.get("role"),
        role_sql: row.get("role_sql"),
        may_replicate: row.get("may_replicate"),
        superuser: row.get("superuser"),
        may_create: row.get("may_create"),
        database: row.get("database"),
        encoding: row.get("encoding"),
        max_replication_slots: row.get("max_slots"),
        replication_slots: row.get("slots"),
        max_wal_senders: row.get("max_senders"),
        wal_senders: row.get("senders"),
        max_slot_wal_keep_size: row.get("keep_size"),
    })
}
