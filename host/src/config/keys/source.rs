//! What rows come from.

use super::{SECRET, TABLES, TEXT};
use crate::config::shape::{Block, Key, Shape, Short};
use crate::config::{ByteSize, Duration};

pub(super) const SOURCE: Block = Block {
    keys: &[Key::required(
        "postgres",
        &Shape::Block(&POSTGRES_SOURCE, Short::No),
        "A Postgres database with logical replication.",
    )],
};

const POSTGRES_SOURCE: Block = Block {
    keys: &[
        Key::required(
            "url",
            &SECRET,
            "libpq URL or keyword string; its password from a variable, a file or PGPASSWORD.",
        ),
        Key::optional("tables", &TABLES, "Tables to follow, `schema.table`, with `*` and `?`."),
        Key::optional(
            "publication",
            &TEXT,
            "An existing publication to adopt as it is, in place of `tables`.",
        ),
        Key::optional("slot", &TEXT, "The slot's name; `rowmill_<name>` unless given."),
        Key::default(
            "snapshot",
            &Shape::Block(&SNAPSHOT, Short::Value("mode")),
            "",
            "Whether and how rows that are there already are copied.",
        ),
        Key::default(
            "stream_transactions",
            &Shape::Choice(&["true", "false"]),
            "false",
            "Whether large transactions are received while they are in progress; they leave at their commit either way.",
        ),
        Key::optional(
            "decoding_memory",
            &Shape::Size(ByteSize::mib(1), ByteSize::mib(1 << 20)),
            "Bytes that the server may hold of transactions that it decodes for the pipeline, beyond which it writes them to its \
             disk (its `logical_decoding_work_mem`), or sends them with `stream_transactions`; the server's own setting unless given.",
        ),
        Key::default(
            "two_phase",
            &Shape::Choice(&["true", "false"]),
            "false",
            "Whether prepared transactions are received when they are prepared, and kept on disk until COMMIT PREPARED \
             lets them leave: PostgreSQL 15 and later. A slot that was asked for it can't be asked otherwise any more.",
        ),
        Key::optional(
            "failover_slot",
            &Shape::Choice(&["true", "false"]),
            "Whether standbys keep the slot, so that it is there behind a failover: PostgreSQL 17 and later, where it is the \
             default for a slot that is made. `true` makes one that is there such a slot.",
        ),
        Key::default(
            "spill",
            &Shape::Size(ByteSize::mib(1), ByteSize::mib(16 << 20)),
            "4GiB",
            "Bytes on disk of transactions in progress, beyond which the server holds those itself, as without \
             `stream_transactions`; and of prepared ones, and of changes that wait \
             for the copy of a table without a key, beyond which the pipeline stops.",
        ),
        Key::default(
            "binary",
            &Shape::Choice(&["true", "false"]),
            "false",
            "Whether values are received in binary form, streamed and copied. Plugins and sinks get the same; a `bytea` above \
             500 MB gets through at all.",
        ),
        Key::default(
            "max_row",
            &Shape::Size(ByteSize::mib(1), ByteSize::mib(1024)),
            "256MiB",
            "Bytes of one change as the server sends it, old and new row together. It is held in memory several times; \
             a larger one stops the pipeline.",
        ),
        Key::default(
            "on_wal_pressure",
            &Shape::Choice(&["warn", "detach_sink"]),
            "warn",
            "What happens where the slot is about to be lost, beside a warning: `detach_sink` leaves out sinks that make no progress \
             while others do, until `rowmill attach`.",
        ),
        Key::default(
            "takeover",
            &Shape::Choice(&["true", "false"]),
            "false",
            "Whether a start ends whoever streams from the slot, as for a host that takes another's place; who lost it waits \
             five minutes, then stops. Takes the same role or `pg_signal_backend`.",
        ),
        Key::optional(
            "heartbeat",
            &Shape::Duration(Duration::from_secs(1), Duration::from_secs(24 * 3600)),
            "How often a logical message is written to the source's WAL, for a database that rests on a server that \
             doesn't; never unless given.",
        ),
    ],
};

const SNAPSHOT: Block = Block {
    keys: &[
        Key::default(
            "mode",
            &Shape::Choice(&["initial", "never"]),
            "initial",
            "`initial` copies what is there on the first run.",
        ),
        Key::default(
            "connections",
            &Shape::Count(1, 64),
            "4",
            "Connections that copy at the same time.",
        ),
        Key::default(
            "unit_rows",
            &Shape::Count(100, 10_000_000),
            "80000",
            "Rows that each connection has under way at most until they are durable, in units of a quarter: what a crash \
             makes it read again.",
        ),
        Key::optional(
            "rows_per_second",
            &Shape::Count(1, 1_000_000_000),
            "How many rows are read in a second at most, by all connections together.",
        ),
        Key::optional(
            "where",
            &Shape::ByTable(&TEXT),
            "Conditions in SQL, by table: of these tables only rows that meet them are copied. The stream brings every \
             change.",
        ),
    ],
};
