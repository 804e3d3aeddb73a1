//! Where rows go to.

use super::SECRET;
use crate::config::shape::{Block, Key, Shape, Short};
use crate::config::{ByteSize, Duration};

/// The keys of which a sink has exactly one.
pub(in crate::config) const SINK_KINDS: &[&str] = &["postgres", "file", "stdout", "discard"];

pub(super) const SINK: Block = Block {
    keys: &[
        Key::optional(
            "postgres",
            &Shape::Block(&POSTGRES_SINK, Short::No),
            "A Postgres database with tables of the same names.",
        ),
        Key::optional("file", &Shape::Block(&FILE_SINK, Short::No), "JSON lines in files."),
        Key::optional(
            "stdout",
            &Shape::Block(&NOTHING, Short::No),
            "JSON lines on standard output.",
        ),
        Key::optional(
            "discard",
            &Shape::Block(&NOTHING, Short::No),
            "Nothing: for measurements.",
        ),
        Key::default(
            "queue",
            &Shape::Size(ByteSize::mib(1), ByteSize::mib(4096)),
            "32MiB",
            "Bytes of the queue before the sink.",
        ),
        Key::default(
            "schema_messages",
            &Shape::Choice(&["true", "false"]),
            "false",
            "Whether a sink of JSON gets what the source's DDL trigger says, each message at its place among the rows. It \
             names tables and columns that routes may leave out.",
        ),
    ],
};

const POSTGRES_SINK: Block = Block {
    keys: &[
        Key::required("url", &SECRET, "libpq URL or keyword string of the target."),
        Key::default(
            "flush_interval",
            &FLUSH,
            "200ms",
            "The longest that rows wait for their commit.",
        ),
        Key::optional(
            "mode",
            &Shape::Choice(&["mirror", "upsert", "append", "audit"]),
            "`mirror` keeps what a subscription would keep, `upsert` writes rows whether they were there or not, \
             `append` writes every change as a row of its own, `audit` as a row of one table, with before, after and \
             context; `upsert` where plugins are on the way, else `mirror`.",
        ),
        Key::default(
            "audit",
            &Shape::Block(&AUDIT, Short::No),
            "",
            "The table of changes, in `mode: audit`.",
        ),
        Key::optional(
            "relay",
            &Shape::Block(&RELAY, Short::No),
            "Makes the target one that others read from by logical replication.",
        ),
        Key::default(
            "conflict",
            &Shape::Choice(&["error", "skip", "overwrite"]),
            "error",
            "What becomes of a change in `mode: mirror` that meets another row of the same key.",
        ),
        Key::default(
            "create_tables",
            &Shape::Choice(&["true", "false"]),
            "false",
            "Whether tables and columns that are missing are made: types, keys and NOT NULL as at the source. \
             A large table gets its key behind its rows.",
        ),
        Key::default(
            "transactions",
            &Shape::Choice(&["whole", "relaxed"]),
            "whole",
            "`whole` shows a source transaction at once or not at all; `relaxed` writes by several connections, so that \
             parts of one may be seen before others.",
        ),
        Key::default(
            "connections",
            &Shape::Count(2, 16),
            "2",
            "Connections that write at the same time, with `transactions: relaxed`; each keeps a core of the target \
             busy.",
        ),
    ],
};

const RELAY: Block = Block {
    keys: &[
        Key::required(
            "publication",
            &Shape::Name("mz_source"),
            "The publication at the target, made where it is missing; tables join it with their first row.",
        ),
        Key::default(
            "replica_identity",
            &Shape::Choice(&["full", "default"]),
            "full",
            "`full` sets REPLICA IDENTITY FULL on the tables, `default` leaves theirs alone.",
        ),
        Key::default(
            "truncate",
            &Shape::Choice(&["true", "false"]),
            "true",
            "Whether a publication that is made passes TRUNCATE on, which some readers stop at.",
        ),
    ],
};

const AUDIT: Block = Block {
    keys: &[
        Key::default(
            "table",
            &Shape::Table,
            "public.changes",
            "The table, made where it is missing.",
        ),
        Key::default(
            "context",
            &Shape::Choice(&["first", "latest", "none"]),
            "first",
            "Which message with the prefix `_bemi` of a row's transaction is its context: the first, or the latest \
             before it.",
        ),
        Key::default(
            "indexes",
            &Shape::Choice(&["true", "false"]),
            "true",
            "Whether the table is made with indexes for looking changes up.",
        ),
    ],
};

const FILE_SINK: Block = Block {
    keys: &[
        Key::required(
            "path",
            &Shape::Path("out/rows.jsonl"),
            "The file; those that are full get a number before the extension.",
        ),
        Key::default(
            "rotate",
            &Shape::Size(ByteSize::kib(64), ByteSize::mib(1 << 20)),
            "256MiB",
            "A file beyond this is closed and the next one begun.",
        ),
        Key::default(
            "flush_interval",
            &FLUSH,
            "100ms",
            "The longest that lines wait for their fsync.",
        ),
    ],
};

const FLUSH: Shape = Shape::Duration(Duration::from_millis(1), Duration::from_secs(60));

const NOTHING: Block = Block { keys: &[] };
