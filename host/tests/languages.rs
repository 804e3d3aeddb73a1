//! Plugins in other languages than Rust: each built module through the real chain. Where a toolchain isn't there, the
//! language's tests say so and pass.

use rowmill::batch::{
    Batch, Cell, Column, Lsn, OldImage, Op, Origin, Part, Relation, ReplicaIdentity, Row, Transaction, Truncate, Value,
};
use rowmill::config::{ByteSize, Duration, FilterMode, Limits, OnError, OnFault, Policies};
use rowmill::plugin::{Chain, ChainOutcome, Engine, Mode, PluginError, PluginVersion, Processed};
use serde_json::json;
use std::fmt::Write;
use std::sync::{Arc, LazyLock};

/// With compiled code kept: a module of Go takes seconds to compile, and each test is a process of its own.
static ENGINE: LazyLock<Arc<Engine>> =
    LazyLock::new(|| Engine::new(Some(concat!(env!("CARGO_TARGET_TMPDIR"), "/languages").into())).unwrap());

const LANGUAGES: [&str; 3] = ["c", "as", "go"];
const INT4: u32 = 23;
const TEXT: u32 = 25;
const VARCHAR: u32 = 1043;

/// As they are where pipeline.yaml doesn't say otherwise, but for the compile time: several tests compile at once.
fn limits() -> Limits {
    Limits {
        memory: ByteSize(64 << 20),
        time: Duration(std::time::Duration::from_secs(1)),
        output: ByteSize(64 << 20),
        module: ByteSize(16 << 20),
        compile_time: Duration(std::time::Duration::from_secs(300)),
        isolation: Duration(std::time::Duration::from_secs(30)),
        rows: 1 << 18,
        kv: None,
    }
}

/// A built module, loaded; `None` where it wasn't built.
fn version(name: &str, config: serde_json::Value) -> Option<PluginVersion> {
    let Ok(path) = rowmill_tests::plugin(name) else {
        println!(
            "skipped: plugins/{name}.wasm isn't there: its toolchain isn't, or `cargo xtask plugins --all` was not run"
        );
        return None;
    };
    let bytes = std::fs::read(path).unwrap();
    let limits = limits();
    let module = ENGINE.load(&bytes, &limits).unwrap();
    Some(PluginVersion {
        name: name.to_owned(),
        module,
        config,
        limits,
        // What a plugin doesn't take is an error here: the tests are about which.
        policies: Policies {
            on_error: OnError::Stop,
            on_fault: OnFault::Stop,
            max_faults: 100,
        },
    })
}

fn start(version: &PluginVersion) -> Result<Chain, PluginError> {
    Chain::new(
        &ENGINE,
        std::slice::from_ref(version),
        FilterMode::Membership,
        Mode::Live,
    )
}

/// The filter in each language that was built.
fn filters() -> impl Iterator<Item = (&'static str, Chain)> {
    let built = |language: &'static str| Some((language, version(&format!("paid_only_{language}"), json!(null))?));
    let started = |(language, version)| (language, start(&version).unwrap());
    LANGUAGES.into_iter().filter_map(built).map(started)
}

/// The mask in each language that was built, with a config.
fn masks(config: serde_json::Value) -> impl Iterator<Item = (&'static str, Result<Chain, PluginError>)> {
    let built = move |language: &'static str| {
        let version = version(&format!("mask_email_{language}"), config.clone())?;
        Some((language, start(&version)))
    };
    LANGUAGES.into_iter().filter_map(built)
}

/// A table; each column is name, type, typmod and whether it is part of the key.
fn table(columns: &[(&str, u32, i32, bool)]) -> Arc<Relation> {
    let column = |(slot, (name, type_oid, typmod, key)): (usize, &(&str, u32, i32, bool))| Column {
        name: (*name).to_owned(),
        type_oid: *type_oid,
        typmod: *typmod,
        type_name: "t".to_owned(),
        nullable: true,
        key: *key,
        slot: slot as u16,
    };
    Arc::new(Relation {
        index: Relation::next_index(),
        version: 1,
        oid: 1,
        schema: "public".to_owned(),
        table: "t".to_owned(),
        replica_identity: ReplicaIdentity::Default,
        slots: columns.len() as u16,
        columns: columns.iter().enumerate().map(column).collect(),
    })
}

fn people() -> Arc<Relation> {
    table(&[
        ("id", INT4, -1, true),
        ("email", TEXT, -1, false),
        ("status", TEXT, -1, false),
    ])
}

/// A change: operation, old image, new image. `~` is unchanged, `-` absent, `null` NULL.
type Change<'a> = (Op, Option<(OldImage, &'a [&'a str])>, Option<&'a [&'a str]>);

fn cells(batch: &mut Batch, values: &[&str]) -> rowmill::batch::Tuple {
    let cells: Vec<Cell> = values
        .iter()
        .map(|value| match *value {
            "~" => Cell::UNCHANGED,
            "-" => Cell::ABSENT,
            "null" => Cell::NULL,
            text => batch.text_cell(text.as_bytes()),
        })
        .collect();
    batch.push_tuple(cells)
}

fn batch(relation: &Arc<Relation>, changes: &[Change<'_>]) -> (Batch, Vec<Row>) {
    let transaction = Transaction {
        xid: 4_000_000_000,
        commit_lsn: Lsn(0xff_0000_0010),
        end_lsn: Lsn(0xff_0000_0018),
        commit_us: -5_000_000_000,
        part: Part::Whole,
        origin: Origin::Stream,
    };
    let mut batch = Batch {
        relations: vec![Arc::clone(relation)],
        transactions: vec![transaction],
        truncates: vec![Truncate {
            relations: vec![0],
            cascade: false,
            restart_identity: false,
        }],
        ..Batch::default()
    };
    let rows = changes
        .iter()
        .enumerate()
        .map(|(ordinal, (op, old, new))| Row {
            relation: 0,
            transaction: 0,
            ordinal: ordinal as u64,
            old: old.map(|(_, values)| cells(&mut batch, values)),
            new: new.map(|values| cells(&mut batch, values)),
            extra: 0,
            fan_out: 0,
            op: *op,
            old_image: old.map_or(OldImage::Full, |(image, _)| image),
        })
        .collect();
    (batch, rows)
}

/// What leaves the chain, as text: operation, old image in parentheses, new image.
fn through(chain: &mut Chain, relation: &Arc<Relation>, changes: &[Change<'_>]) -> Result<Vec<String>, PluginError> {
    let (mut batch, mut rows) = batch(relation, changes);
    chain.relation(relation)?;
    chain.process(&mut batch, &mut rows, &mut Processed::default())?;
    let image = |tuple| {
        let values = batch.values(tuple, relation).map(|value| match value {
            Value::Null => "null".to_owned(),
            Value::Unchanged => "~".to_owned(),
            Value::Absent => "-".to_owned(),
            Value::Text(text) | Value::Binary(text) => String::from_utf8_lossy(text).into_owned(),
        });
        values.collect::<Vec<_>>().join(" ")
    };
    let shown = |row: &Row| {
        let mut text = row.op.name().to_owned();
        if let Some(old) = row.old {
            write!(text, " ({})", image(old)).unwrap();
        }
        if let Some(new) = row.new {
            write!(text, " {}", image(new)).unwrap();
        }
        text
    };
    Ok(rows.iter().map(shown).collect())
}

fn text_of(error: &PluginError) -> String {
    let problem = error.problem();
    format!("{problem} {}", problem.cause.as_deref().unwrap_or_default())
}

const PAID: Option<&[&str]> = Some(&["1", "a@b.c", "paid"]);
const OPEN: Option<&[&str]> = Some(&["1", "a@b.c", "open"]);
const WAS_PAID: Option<(OldImage, &[&str])> = Some((OldImage::Full, &["1", "x@y.z", "paid"]));
const WAS_OPEN: Option<(OldImage, &[&str])> = Some((OldImage::Full, &["1", "x@y.z", "open"]));
const OLD_KEY: Option<(OldImage, &[&str])> = Some((OldImage::Key, &["9", "-", "-"]));

const CHANGES: &[Change<'_>] = &[
    (Op::Insert, None, PAID),
    (Op::Insert, None, OPEN),
    (Op::Read, None, PAID),
    (Op::Read, None, OPEN),
    (Op::Insert, None, Some(&["2", "null", "null"])),
    (Op::Insert, None, Some(&["3", "", "PAID"])),
    (Op::Insert, None, Some(&["4", "", "paid "])),
    (Op::Insert, None, Some(&["5", "", "pai"])),
    (Op::Insert, None, Some(&["6", "", ""])),
    (Op::Update, WAS_PAID, PAID),
    (Op::Update, WAS_PAID, OPEN),
    (Op::Update, WAS_OPEN, PAID),
    (Op::Update, WAS_OPEN, OPEN),
    (Op::Update, WAS_PAID, Some(&["1", "~", "~"])),
    (Op::Update, None, PAID),
    (Op::Update, None, OPEN),
    (Op::Update, OLD_KEY, PAID),
    (Op::Update, OLD_KEY, OPEN),
    (Op::Truncate, None, None),
    (Op::Delete, WAS_PAID, None),
    (Op::Delete, WAS_OPEN, None),
    (Op::Delete, OLD_KEY, None),
];

#[test]
fn a_filter_in_any_language_lets_pass_what_the_one_in_rust_does() {
    let people = people();
    let rust = version("paid_only", json!(null)).unwrap();
    let expected = through(&mut start(&rust).unwrap(), &people, CHANGES).unwrap();
    assert_eq!(expected.len(), 13, "{expected:#?}");
    for (language, mut chain) in filters() {
        assert_eq!(through(&mut chain, &people, CHANGES).unwrap(), expected, "{language}");
        // In batches of one: results don't depend on where they are cut.
        let one = |change| through(&mut chain, &people, std::slice::from_ref(change)).unwrap();
        let singly: Vec<String> = CHANGES.iter().flat_map(one).collect();
        assert_eq!(singly, expected, "{language}, one by one");
    }
}

#[test]
fn a_table_without_status_is_passed_by() {
    for (language, mut chain) in filters() {
        let other = table(&[("id", INT4, -1, true)]);
        assert_eq!(chain.relation(&other).unwrap(), ChainOutcome::PassBy, "{language}");
        // Beside it, in the same chain, one that is filtered.
        let left = through(&mut chain, &people(), &CHANGES[..2]).unwrap();
        assert_eq!(left, ["insert 1 a@b.c paid"], "{language}");
    }
}

#[test]
fn a_status_that_was_not_sent_is_an_error_of_the_row() {
    for (language, mut chain) in filters() {
        let error = through(&mut chain, &people(), &[(Op::Update, None, Some(&["1", "x", "~"]))]).unwrap_err();
        assert!(text_of(&error).contains("status"), "{language}: {}", text_of(&error));
    }
}

#[test]
fn a_mask_in_any_language_masks_every_image() {
    let changes: &[Change<'_>] = &[
        (Op::Insert, None, Some(&["1", "alice@example.org", "paid"])),
        (Op::Read, None, Some(&["2", "ägidius@example.org", "x"])),
        (Op::Insert, None, Some(&["3", "null", "x"])),
        (Op::Insert, None, Some(&["4", "", "x"])),
        (Op::Insert, None, Some(&["5", "@example.org", "x"])),
        (Op::Insert, None, Some(&["6", "no address", "x"])),
        (Op::Insert, None, Some(&["7", "a@b@example.org", "x"])),
        (Op::Update, None, Some(&["8", "~", "x"])),
        (Op::Update, WAS_OPEN, PAID),
        (Op::Update, WAS_OPEN, Some(&["1", "~", "paid"])),
        (Op::Update, OLD_KEY, OPEN),
        (Op::Truncate, None, None),
        (Op::Delete, WAS_PAID, None),
        (Op::Delete, OLD_KEY, None),
    ];
    let expected = [
        "insert 1 a***@example.org paid",
        "read 2 ä***@example.org x",
        "insert 3 null x",
        "insert 4 *** x",
        "insert 5 ***@example.org x",
        "insert 6 *** x",
        "insert 7 a***@example.org x",
        "update 8 ~ x",
        "update (1 x***@y.z open) 1 a***@b.c paid",
        "update (1 x***@y.z open) 1 x***@y.z paid",
        "update (9 - -) 1 a***@b.c open",
        "truncate",
        "delete (1 x***@y.z paid)",
        "delete (9 - -)",
    ];
    for (language, chain) in masks(json!({"column": "email"})) {
        assert_eq!(
            through(&mut chain.unwrap(), &people(), changes).unwrap(),
            expected,
            "{language}"
        );
    }
}

/// A masked value is longer than a short one; a column of limited length must still hold it.
#[test]
fn a_mask_is_cut_to_what_the_column_holds() {
    let limited = |max: i32| table(&[("id", INT4, -1, true), ("email", VARCHAR, max + 4, false)]);
    for (language, chain) in masks(json!({"column": "email"})) {
        let mut chain = chain.unwrap();
        let expected = [
            (1, "ö"),
            (2, "ö*"),
            (4, "ö***"),
            (6, "ö***@ü"),
            (7, "ö***@ü."),
            (8, "ö***@ü.x"),
        ];
        for (max, masked) in expected {
            let left = through(&mut chain, &limited(max), &[(Op::Insert, None, Some(&["1", "ö@ü.x"]))]).unwrap();
            assert_eq!(left, [format!("insert 1 {masked}")], "{language}, varchar({max})");
        }
    }
}

#[test]
fn a_mask_refuses_what_it_can_not_mask() {
    for (language, chain) in masks(json!({"column": "email"})) {
        let mut chain = chain.unwrap();
        for (columns, reason) in [
            (table(&[("id", INT4, -1, true)]), "column"),
            (table(&[("email", TEXT, -1, true)]), "key"),
            (table(&[("id", INT4, -1, true), ("email", INT4, -1, false)]), "text"),
        ] {
            let text = text_of(&chain.relation(&columns).unwrap_err());
            assert!(text.contains(reason), "{language}: {text}");
        }
    }
    for config in [
        json!(null),
        json!({}),
        json!({"column": 1}),
        json!({"column": "email", "salt": "s"}),
        json!("email"),
    ] {
        for (language, chain) in masks(config.clone()) {
            let text = text_of(&chain.map(|_| ()).unwrap_err());
            assert!(
                text.contains("column") || text.contains("config"),
                "{language} {config}: {text}"
            );
        }
    }
}

/// Strings of every length class, several hundred batches: the same answer each time, and memory that doesn't grow.
#[test]
fn long_values_and_many_batches() {
    let lengths = [0, 1, 30, 31, 32, 254, 255, 256, 65_535, 65_536, 100_000];
    let emails: Vec<String> = lengths
        .iter()
        .map(|len| format!("{}@example.org", "x".repeat(*len)))
        .collect();
    let values: Vec<[&str; 3]> = emails.iter().map(|email| ["1", email.as_str(), "paid"]).collect();
    let long: Vec<Change<'_>> = values
        .iter()
        .map(|values| (Op::Insert, None, Some(values.as_slice())))
        .collect();
    let many: Vec<Change<'_>> = CHANGES.iter().cycle().take(2_000).copied().collect();
    let people = people();
    let all = masks(json!({"column": "email"})).map(|(language, chain)| (language, chain.unwrap()));
    for (language, mut chain) in all.chain(filters()) {
        let first = (
            through(&mut chain, &people, &long).unwrap(),
            through(&mut chain, &people, &many).unwrap(),
        );
        assert_eq!(first.0.len(), lengths.len(), "{language}");
        for _ in 0..200 {
            assert_eq!(through(&mut chain, &people, &many).unwrap(), first.1, "{language}");
        }
        assert_eq!(through(&mut chain, &people, &long).unwrap(), first.0, "{language}");
        let memory = chain.memory_bytes() as u64;
        assert!(
            memory <= limits().memory.0 / 2,
            "{language}: its memory grows, to {memory}"
        );
    }
}

/// Not a benchmark: host and guest together, the host as tests build it, in the best of many rounds.
/// `cargo test -p rowmill --test languages -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn cost_per_row() {
    const ROWS: usize = 1_024;
    const ROUNDS: usize = 500;
    let people = people();
    let values: &[&str] = &["12345", "alice@example.org", "paid"];
    let changes: Vec<Change<'_>> = std::iter::repeat_n((Op::Insert, None, Some(values)), ROWS).collect();
    let measure = |name: &str, config: serde_json::Value| {
        let mut chain = start(&version(name, config)?).unwrap();
        chain.relation(&people).unwrap();
        let (mut batch, all) = batch(&people, &changes);
        let (cells, arena) = (batch.cells.len(), batch.arena.len());
        let once = |_| {
            batch.cells.truncate(cells);
            batch.arena.truncate(arena);
            let mut rows = all.clone();
            let started = std::time::Instant::now();
            chain.process(&mut batch, &mut rows, &mut Processed::default()).unwrap();
            started.elapsed().as_nanos()
        };
        let best = (0..ROUNDS).map(once).min()?;
        println!("{name}: {:.0} ns per row", best as f64 / ROWS as f64);
        Some(())
    };
    measure("paid_only", json!(null));
    measure("mask_pii", json!({"columns": ["email"], "method": "redact"}));
    for language in LANGUAGES {
        measure(&format!("paid_only_{language}"), json!(null));
        measure(&format!("mask_email_{language}"), json!({"column": "email"}));
    }
}
