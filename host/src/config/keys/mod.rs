//! Every key of pipeline.yaml, once: what it is called, what it may hold, what it is when left out.

mod plugins;
mod sinks;
mod source;

use super::shape::{Block, Key, Shape, Short};
use super::{ByteSize, Duration};
use plugins::PLUGIN;
use sinks::SINK;
pub(super) use sinks::SINK_KINDS;
use source::SOURCE;

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

const ROUTE: Block = Block {
    keys: &[
        Key::required(
            "tables",
            &TABLES,
            "Tables of the source that take this route. Routes with the same tables are told apart by their sinks and plugins, in whatever order they stand.",
        ),
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

const CONSOLE: Block = Block {
    keys: &[Key::default(
        "listen",
        &Shape::Address,
        "127.0.0.1:7070",
        "Loopback address and port, or `off`.",
    )],
};
