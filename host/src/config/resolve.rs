//! From checked values to the pipeline that the other stages work with.

use super::item::{Entry, Item, Value};
use super::model::*;
use std::num::NonZeroU64;
use std::path::Path;

/// One walsender feeds a pipeline: more lanes than this wait for it.
const MAX_DEFAULT_LANES: usize = 4;

/// Fills in what depends on other values. `None` where something is missing, which has been reported.
pub(super) fn pipeline(root: &Item, file: &Path, base: &Path) -> Option<Pipeline> {
    let name = root.text("name")?.to_owned();
    let state_dir = match root.text("state_dir") {
        Some(path) => base.join(path),
        None => base.join(".rowmill").join(&name),
    };
    let routes: Vec<Route> = root.items("routes").iter().map(route).collect::<Option<_>>()?;
    let has_plugins = |sink: &str| {
        let mut with_plugins = routes.iter().filter(|route| !route.plugins.is_empty());
        with_plugins.any(|route| route.sinks.iter().any(|name| name == sink))
    };
    let sinks = named(root, "sinks", |entry| sink(entry, base, has_plugins(&entry.key)))?;
    let is_mirror = |name: &String| {
        let mirror = |sink: &Sink| matches!(&sink.kind, SinkKind::Postgres(sink) if sink.mode == WriteMode::Mirror);
        sinks.iter().any(|sink| sink.name == *name && mirror(sink))
    };
    let is_mirrored = |plugin: &str| {
        let mut of_plugin = routes
            .iter()
            .filter(|route| route.plugins.iter().any(|name| name == plugin));
        of_plugin.any(|route| route.sinks.iter().any(is_mirror))
    };
    Some(Pipeline {
        source: source(root.get("source")?.get("postgres")?)?,
        plugins: named(root, "plugins", |entry| plugin(entry, base, is_mirrored(&entry.key)))?,
        sinks,
        routes,
        console: Console {
            listen: root.get("console")?.address("listen")?,
        },
        reload: Reload {
            settle: root.get("reload")?.duration("settle")?,
            interval: root.get("reload")?.duration("interval")?,
            probation: root.get("reload")?.duration("probation")?,
            probation_batches: root.get("reload")?.count("probation_batches")?,
        },
        lanes: root.count("lanes").unwrap_or_else(default_lanes),
        dead_letters: DeadLetters {
            quota: root.get("dead_letters")?.size("quota")?,
            retention: root.get("dead_letters")?.duration("retention")?,
            max_behind: root.get("dead_letters")?.count("max_behind")?,
        },
        drain_timeout: root.duration("drain_timeout")?,
        file: file.to_owned(),
        base_dir: base.to_owned(),
        module_root: base.to_owned(),
        state_dir,
        name,
    })
}

/// Receiving and the sinks want a core too.
fn default_lanes() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, MAX_DEFAULT_LANES))
}

fn named<T>(root: &Item, key: &str, of: impl Fn(&Entry) -> Option<T>) -> Option<Vec<T>> {
    root.get(key)?.entries().iter().map(of).collect()
}

fn source(item: &Item) -> Option<Source> {
    let snapshot = item.get("snapshot")?;
    Some(Source {
        url: item.secret("url")?.clone(),
        tables: item.tables("tables"),
        publication: item.text("publication").map(str::to_owned),
        slot: item.text("slot").map(str::to_owned),
        snapshot: Snapshot {
            mode: match snapshot.text("mode")? {
                "never" => SnapshotMode::Never,
                _ => SnapshotMode::Initial,
            },
            connections: snapshot.count("connections")?,
            unit_rows: snapshot.count("unit_rows")?,
            rows_per_second: snapshot
                .count("rows_per_second")
                .and_then(|rows| NonZeroU64::new(rows as u64)),
            conditions: conditions(snapshot)?,
        },
        stream_transactions: item.text("stream_transactions")? == "true",
        decoding_memory: item.size("decoding_memory"),
        two_phase: item.text("two_phase")? == "true",
        failover_slot: item.text("failover_slot").map(|word| word == "true"),
        spill: item.size("spill")?,
        binary: item.text("binary")? == "true",
        max_row: item.size("max_row")?,
        on_wal_pressure: match item.text("on_wal_pressure")? {
            "detach_sink" => OnWalPressure::DetachSink,
            _ => OnWalPressure::Warn,
        },
        takeover: item.text("takeover")? == "true",
        heartbeat: item.duration("heartbeat"),
    })
}

fn conditions(snapshot: &Item) -> Option<Vec<(String, String)>> {
    let entries = snapshot.get("where").map_or(&[][..], Item::entries);
    let condition = |entry: &Entry| Some((entry.key.clone(), entry.item.as_ref()?.as_text()?.to_owned()));
    entries.iter().map(condition).collect()
}

fn plugin(entry: &Entry, base: &Path, is_mirrored: bool) -> Option<Plugin> {
    let item = entry.item.as_ref()?;
    let limits = item.get("limits")?;
    let (config, written) = match item.entry("config") {
        Some(entry) => match &entry.item.as_ref()?.value {
            Value::Any { value, written } => (value.clone(), written.clone()),
            _ => return None,
        },
        None => (serde_json::Value::Null, serde_json::Value::Null),
    };
    Some(Plugin {
        name: entry.key.clone(),
        module: base.join(item.text("module")?),
        samples: item.text("samples").map(|folder| base.join(folder)),
        config,
        written,
        limits: Limits {
            memory: limits.size("memory")?,
            time: limits.duration("time")?,
            output: limits.size("output")?,
            module: limits.size("module")?,
            compile_time: limits.duration("compile_time")?,
            kv: match item.texts("features").iter().any(|feature| feature == "kv") {
                true => Some(limits.size("kv")?),
                false => None,
            },
            isolation: limits.duration("isolation")?,
            rows: limits.count("rows")? as u64,
        },
        allow_schema_change: item.text("allow_schema_change")? == "true",
        policies: policies(item, is_mirrored)?,
    })
}

/// A mirror that lacks a change is none: where a route leads into one, nothing is left out unless the file says so.
fn policies(item: &Item, is_mirrored: bool) -> Option<Policies> {
    Some(Policies {
        on_error: match item.text("on_error") {
            Some("drop") => OnError::Drop,
            Some("pass") => OnError::Pass,
            Some("stop") => OnError::Stop,
            None if is_mirrored => OnError::Stop,
            _ => OnError::DeadLetter,
        },
        on_fault: match item.text("on_fault") {
            Some("bypass") => OnFault::Bypass,
            Some("stop") => OnFault::Stop,
            None if is_mirrored => OnFault::Stop,
            _ => OnFault::Isolate,
        },
        max_faults: u32::try_from(item.count("max_faults")?).ok()?,
    })
}

fn route(item: &Item) -> Option<Route> {
    let plugins = item.texts("plugins");
    let on_new_column = match item.text("on_new_column") {
        Some("stop") => OnNewColumn::Stop,
        Some("drop") => OnNewColumn::Drop,
        Some(_) => OnNewColumn::Pass,
        // What a mask doesn't know it can't mask.
        None if plugins.is_empty() => OnNewColumn::Pass,
        None => OnNewColumn::Drop,
    };
    Some(Route {
        tables: item.tables("tables"),
        columns: item.entry("columns").map(|_| item.texts("columns")),
        on_new_column,
        on_schema_change: match item.text("on_schema_change")? {
            "ignore" => OnSchemaChange::Ignore,
            "stop" => OnSchemaChange::Stop,
            _ => OnSchemaChange::Evolve,
        },
        filter: match item.text("filter")? {
            "event" => FilterMode::Event,
            _ => FilterMode::Membership,
        },
        plugins,
        sinks: item.texts("sinks"),
        known_as: None,
    })
}

fn sink(entry: &Entry, base: &Path, has_plugins: bool) -> Option<Sink> {
    let item = entry.item.as_ref()?;
    Some(Sink {
        name: entry.key.clone(),
        kind: sink_kind(item, base, has_plugins)?,
        queue: item.size("queue")?,
        schema_messages: item.text("schema_messages")? == "true",
    })
}

fn audit(item: &Item) -> Option<Audit> {
    let table = item.get("table")?.as_table()?;
    Some(Audit {
        schema: table.schema.clone(),
        table: table.table.clone(),
        context: match item.text("context")? {
            "latest" => ContextRule::Latest,
            "none" => ContextRule::None,
            _ => ContextRule::First,
        },
        indexes: item.text("indexes")? == "true",
    })
}

fn sink_kind(item: &Item, base: &Path, has_plugins: bool) -> Option<SinkKind> {
    if let Some(postgres) = item.get("postgres") {
        return Some(SinkKind::Postgres(PostgresSink {
            url: postgres.secret("url")?.clone(),
            flush_interval: postgres.duration("flush_interval")?,
            mode: match postgres.text("mode") {
                Some("mirror") => WriteMode::Mirror,
                Some("append" | "audit") => WriteMode::Append,
                None if !has_plugins => WriteMode::Mirror,
                _ => WriteMode::Upsert,
            },
            create_tables: postgres.text("create_tables")? == "true",
            relay: match postgres.get("relay") {
                Some(relay) => Some(Relay {
                    publication: relay.text("publication")?.to_owned(),
                    full: relay.text("replica_identity")? == "full",
                    truncate: relay.text("truncate")? == "true",
                }),
                None => None,
            },
            audit: match postgres.text("mode") {
                Some("audit") => Some(audit(postgres.get("audit")?)?),
                _ => None,
            },
            relaxed: match postgres.text("transactions")? {
                "relaxed" => Some(postgres.count("connections")?),
                _ => None,
            },
            conflict: match postgres.text("conflict")? {
                "skip" => OnConflict::Skip,
                "overwrite" => OnConflict::Overwrite,
                _ => OnConflict::Error,
            },
        }));
    }
    if let Some(file) = item.get("file") {
        return Some(SinkKind::File(FileSink {
            path: base.join(file.text("path")?),
            rotate: file.size("rotate")?,
            flush_interval: file.duration("flush_interval")?,
        }));
    }
    if item.get("stdout").is_some() {
        return Some(SinkKind::Stdout);
    }
    item.get("discard").map(|_| SinkKind::Discard)
}
