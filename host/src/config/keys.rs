//! Every key of pipeline.yaml, once: what it is called, what it may hold, what it is when left out.

use super::shape::{Block, Key, Shape, Short};
use super::{ByteSize, Duration};

/// Names are part of slots and publications, where Postgres ends at 63 bytes: `rowmill_` and 50 leave some room.
pub(super) const MAX_NAME_CHARS: usize = 50;

const TABLE: Shape = Shape::Table;
const TABLES: Shape = Shape::List(&TABLE);
const NAME: Shape = Shape::Name("shop");
const TEXT: Shape = Shape::Text;
const SECRET: Shape = Shape::Secret;

/// The whole file.
pub(super) const PIPELINE: Block = Block {
    keys: &[
        Key::required("name", &NAME, "Names the pipeline, its slot, publication and state."),
        Key::required("source", &Shape::Block(&SOURCE, Short::No), "Where rows come from."),
        Key::default(
            "plugins",
            &Shape::Named("paid_only", &Shape::Block(&PLUGIN, Short::No)),
            "",
            "WebAssembly modules that filter and transform rows.",
        ),
        Key::required(
            "routes",
            &Shape::List(&Shape::Block(&ROUTE, Short::No)),
            "Which rows go through which plugins to which sinks.",
        ),
        Key::required(
            "sinks",
            &Shape::Named("out", &Shape::Block(&SINK, Short::Key(&["stdout", "discard"]))),
            "Where rows are delivered.",
        ),
        Key::optional(
            "state_dir",
            &Shape::Path(".rowmill/shop"),
            "Folder of positions and compiled plugins; `.rowmill/<name>` unless given.",
        ),
        Key::default(
            "console",
            &Shape::Block(&CONSOLE, Short::Value("listen")),
            "",
            "Health, metrics and live view; `off` switches it off.",
        ),
        Key::default(
            "reload",
            &Shape::Block(&RELOAD, Short::No),
            "",
            "When a changed plugin is taken up.",
        ),
        Key::optional(
            "lanes",
            &Shape::Count(1, 64),
            "Batches that go through the plugins at the same time; half of the machine's cores unless given.",
        ),
        Key::default(
            "dead_letters",
            &Shape::Block(&DEAD_LETTERS, Short::No),
            "",
            "Changes that a plugin couldn't take through: how many are kept, and for how long.",
        ),
        Key::default(
            "drain_timeout",
            &Shape::Duration(Duration::from_millis(100), Duration::from_secs(3600)),
            "30s",
            "How long SIGTERM waits for rows that are under way.",
        ),
    ],
};

const RELOAD: Block = Block {
    keys: &[
        Key::default(
            "settle",
            &Shape::Duration(Duration::from_millis(0), Duration::from_secs(60)),
            "300ms",
            "How long a plugin's file must lie still.",
        ),
        Key::default(
            "interval",
            &Shape::Duration(Duration::from_millis(0), Duration::from_secs(3600)),
            "1s",
            "The shortest time between two reloads of a plugin.",
        ),
        Key::default(
            "probation",
            &Shape::Duration(Duration::from_millis(0), Duration::from_secs(24 * 3600)),
            "60s",
            "How long a new version that breaks gives way to the one before; `0s` trusts it at once.",
        ),
        Key::default(
            "probation_batches",
            &Shape::Count(1, 1_000_000_000),
            "1000",
            "Batches after which a new version is trusted before that time is over.",
        ),
    ],
};

const DEAD_LETTERS: Block = Block {
    keys: &[
        Key::default(
            "quota",
            &Shape::Size(ByteSize::mib(1), ByteSize::mib(1 << 20)),
            "1GiB",
            "Bytes on disk; the pipeline stops rather than exceeding them.",
        ),
        Key::default(
            "retention",
            &Shape::Duration(Duration::from_secs(3600), Duration::from_secs(3650 * 86_400)),
            "30d",
            "Letters older than this are dropped, unless younger ones wait behind them.",
        ),
        Key::default(
            "max_behind",
            &Shape::Count(0, 1_000_000),
            "10000",
            "Changes of a table that may wait behind an earlier letter of their key.",
        ),
    ],
};

const SOURCE: Block = Block {
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

const PLUGIN: Block = Block {
    keys: &[
        Key::required(
            "module",
            &Shape::Path("plugins/paid_only.wasm"),
            "The .wasm file, inside the folder of this file.",
        ),
        Key::optional(
            "config",
            &Shape::Any,
            "Handed to the plugin; values with a variable are texts.",
        ),
        Key::default(
            "limits",
            &Shape::Block(&LIMITS, Short::No),
            "",
            "What the plugin may use.",
        ),
        Key::default(
            "features",
            &Shape::ListOrNone(&Shape::Choice(&["kv"])),
            "",
            "What the plugin may use beyond its rows: `kv`, entries by key that the host keeps for it.",
        ),
        Key::optional(
            "samples",
            &Shape::Path("plugins/paid_only.samples"),
            "A folder of golden samples that a new version is rehearsed on; `NAME.samples` beside the module where there \
             is one.",
        ),
        Key::default(
            "allow_schema_change",
            &Shape::Choice(&["true", "false"]),
            "false",
            "Whether a reload may change the columns that come out.",
        ),
        Key::optional(
            "on_error",
            &Shape::Choice(&["dead_letter", "drop", "pass", "stop"]),
            "What becomes of a change that the plugin rejects or can't be given; `pass` lets it go by the plugin. Unless \
             given, `stop` where a route with the plugin leads into a Postgres sink of `mode: mirror`, else `dead_letter`.",
        ),
        Key::optional(
            "on_fault",
            &Shape::Choice(&["isolate", "bypass", "stop"]),
            "What becomes of a change that the plugin breaks on; `isolate` sets it aside, `bypass` lets it go by. Unless \
             given, `stop` where a route with the plugin leads into a Postgres sink of `mode: mirror`, else `isolate`.",
        ),
        Key::default(
            "max_faults",
            &Shape::Count(1, 1_000_000),
            "100",
            "Faults within a minute beyond which the pipeline stops.",
        ),
    ],
};

const LIMITS: Block = Block {
    keys: &[
        Key::default(
            "memory",
            &Shape::Size(ByteSize::mib(1), ByteSize::mib(4096)),
            "64MiB",
            "Memory of one instance.",
        ),
        Key::default(
            "time",
            &Shape::Duration(Duration::from_millis(10), Duration::from_secs(600)),
            "1s",
            "CPU time per batch; the wall clock may take ten times that.",
        ),
        Key::default(
            "output",
            &Shape::Size(ByteSize::kib(64), ByteSize::mib(2048)),
            "64MiB",
            "Bytes of one reply.",
        ),
        Key::default(
            "module",
            &Shape::Size(ByteSize::kib(1), ByteSize::mib(256)),
            "16MiB",
            "Bytes of the module.",
        ),
        Key::default(
            "compile_time",
            &Shape::Duration(Duration::from_secs(1), Duration::from_secs(600)),
            "30s",
            "How long its compilation may take.",
        ),
        Key::default(
            "isolation",
            &Shape::Duration(Duration::from_millis(10), Duration::from_secs(3600)),
            "30s",
            "CPU time for finding the changes of one batch that it breaks on; the wall clock may take ten times that.",
        ),
        Key::default(
            "rows",
            &Shape::Count(1_000, 100_000_000),
            "262144",
            "Rows that it makes of all rows of one batch, where it makes several of one.",
        ),
        Key::default(
            "kv",
            &Shape::Size(ByteSize::kib(64), ByteSize::mib(2048)),
            "64MiB",
            "Keys and values of all its entries; they are held in memory.",
        ),
    ],
};

const ROUTE: Block = Block {
    keys: &[
        Key::required("tables", &TABLES, "Tables of the source that take this route."),
        Key::optional(
            "columns",
            &Shape::List(&TEXT),
            "Only these leave; those that were there at the first start unless given.",
        ),
        Key::optional(
            "on_new_column",
            &Shape::Choice(&["stop", "drop", "pass"]),
            "What happens to a column added later; `drop` with plugins, `pass` without, unless given.",
        ),
        Key::default(
            "on_schema_change",
            &Shape::Choice(&["evolve", "ignore", "stop"]),
            "evolve",
            "What happens where columns are added, dropped, renamed or get another type.",
        ),
        Key::default(
            "filter",
            &Shape::Choice(&["membership", "event"]),
            "membership",
            "Whether a row that leaves the filtered set is deleted at the sinks, or each change judged alone.",
        ),
        Key::default(
            "plugins",
            &Shape::ListOrNone(&Shape::Name("paid_only")),
            "",
            "Plugins in the order in which rows go through them.",
        ),
        Key::required("sinks", &Shape::List(&Shape::Name("out")), "Sinks that get the rows."),
    ],
};

/// The keys of which a sink has exactly one.
pub(super) const SINK_KINDS: &[&str] = &["postgres", "file", "stdout", "discard"];

const SINK: Block = Block {
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

const CONSOLE: Block = Block {
    keys: &[Key::default(
        "listen",
        &Shape::Address,
        "127.0.0.1:7070",
        "Loopback address and port, or `off`.",
    )],
};
