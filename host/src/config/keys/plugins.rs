//! A plugin and its limits.

use crate::config::shape::{Block, Key, Shape, Short};
use crate::config::{ByteSize, Duration};

pub(super) const PLUGIN: Block = Block {
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
            "CPU time for compiling it, which gives way to the rows; the wall clock may take ten times that. With five cores \
             and more, which compile together, the wall clock alone.",
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
