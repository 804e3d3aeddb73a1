//! Guests in WebAssembly text with prepared replies, and batches to send through them.

mod alike;
mod bounds;
mod divided;
mod encoding;
mod faults;
mod hostile;
mod hostile_plugins;
mod images;
mod in_place;
mod isolation;
mod load;
mod membership;
mod pieces;
mod random;
mod replies;
mod routes;
mod rowless;
mod shape;
mod speed;
pub(crate) mod state;

use super::write;
use super::{Chain, Engine, Mode, PluginError, PluginVersion, Processed};
use crate::batch::{
    Batch, Cell, Column, Lsn, OldImage, Op, Origin, Part, Relation, ReplicaIdentity, Row, Transaction, Tuple, Value,
};
use crate::config::{ByteSize, Duration, FilterMode, Limits, OnError, OnFault, Policies};
use std::fmt::Write;
use std::sync::{Arc, LazyLock};

pub(crate) static ENGINE: LazyLock<Arc<Engine>> = LazyLock::new(|| Engine::new(None).unwrap());

pub(super) const INT4: u32 = 23;
pub(super) const TEXT: u32 = 25;

pub(super) fn limits() -> Limits {
    Limits {
        memory: ByteSize(4 << 20),
        time: Duration(std::time::Duration::from_millis(100)),
        output: ByteSize(1 << 20),
        module: ByteSize(1 << 20),
        compile_time: Duration(std::time::Duration::from_secs(30)),
        kv: None,
        isolation: Duration(std::time::Duration::from_secs(10)),
        rows: 10_000,
    }
}

// MessagePack by hand.
pub(super) fn arr(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    write::array(&mut out, parts.len());
    out.extend(parts.iter().flatten());
    out
}
pub(super) fn i(value: i64) -> Vec<u8> {
    let mut out = Vec::new();
    write::int(&mut out, value);
    out
}
pub(super) fn s(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write::str(&mut out, text.as_bytes());
    out
}
pub(super) fn bin(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write::bin_header(&mut out, bytes.len());
    out.extend_from_slice(bytes);
    out
}
pub(super) fn nil() -> Vec<u8> {
    vec![0xc0]
}
pub(super) fn yes(value: bool) -> Vec<u8> {
    vec![if value { 0xc3 } else { 0xc2 }]
}
pub(super) fn ints(values: &[i64]) -> Vec<u8> {
    arr(&values.iter().map(|value| i(*value)).collect::<Vec<_>>())
}

/// `[0, 0, read, writes, 0, outputs]`
pub(super) fn wishes(read: &[i64], writes: &[i64], outputs: Option<Vec<u8>>) -> Vec<u8> {
    arr(&[i(0), i(0), ints(read), ints(writes), i(0), outputs.unwrap_or_else(nil)])
}

/// A transform's reply: pass by default, with these actions.
pub(super) fn actions(actions: &[Vec<u8>]) -> Vec<u8> {
    arr(&[i(0), i(0), arr(actions)])
}

/// `[image, 2, [column, value]]`
pub(super) fn patch(image: i64, column: i64, value: Vec<u8>) -> Vec<u8> {
    arr(&[i(image), i(2), arr(&[i(column), value])])
}

/// A guest that gives prepared replies.
pub(super) struct Guest {
    pub kind: &'static str,
    pub abi: i32,
    pub init: Vec<u8>,
    pub schema: Vec<u8>,
    pub batch: Vec<u8>,
    /// Instead of the prepared reply to a batch: the function's body.
    pub body: Option<&'static str>,
    /// Further fields of the module, imports first.
    pub imports: &'static str,
    pub policies: Policies,
    /// How `rowmill_row` is declared; the batch's body writes it as `$row`.
    pub row: &'static str,
    pub features: &'static [&'static str],
    pub config_schema: Option<&'static str>,
}

/// Whatever a plugin doesn't take is an error: most tests are about which.
pub(super) const STOP: Policies = Policies {
    on_error: OnError::Stop,
    on_fault: OnFault::Stop,
    max_faults: 100,
};

pub(super) fn filter(schema: Vec<u8>, batch: Vec<u8>) -> Guest {
    Guest {
        kind: "filter",
        abi: 0x1_0000,
        init: ints(&[0]),
        schema,
        batch,
        body: None,
        imports: "",
        policies: STOP,
        row: r#"(global $row (export "rowmill_row") (mut i32) (i32.const 0))"#,
        features: &[],
        config_schema: None,
    }
}

/// For tests of other stages: a chain that drops every row, or lets every row pass.
pub(crate) fn chain_that(drops: bool) -> Chain {
    let guest = filter(wishes(&[0], &[], None), arr(&[i(0), yes(!drops), nil()]));
    guest.chain().unwrap()
}

/// A chain that keeps a running total of column 2 in column 3, all `int8`: its state is the total, little-endian.
pub(crate) fn chain_that_counts() -> Chain {
    state::chain(state::version(rowmill_tests::Keeps::State, 1), super::Kept::default()).unwrap()
}

/// A chain whose plugin asks for the pipeline to stop at its first row.
pub(crate) fn chain_that_stops() -> Chain {
    let stop = arr(&[i(0), i(0), arr(&[arr(&[i(0), i(7), s("enough")])])]);
    let guest = transform(wishes(&[0], &[], None), stop);
    guest.chain().unwrap()
}

/// A chain that makes `***` of column 1 of so many inserted rows.
pub(crate) fn chain_that_masks(rows: usize) -> Chain {
    masking(rows).chain().unwrap()
}

/// The same, behind which a plugin rejects one of the rows.
pub(crate) fn chain_that_masks_and_rejects(rows: usize, rejected: i64) -> Chain {
    let versions = [
        masking(rows).version("mask").unwrap(),
        rejecting(rejected).version("picky").unwrap(),
    ];
    Chain::new(&ENGINE, &versions, FilterMode::Membership, Mode::Live).unwrap()
}

/// A chain that keeps nothing and rejects the row at this place of each batch.
pub(crate) fn chain_that_rejects(rejected: i64) -> Chain {
    rejecting(rejected).chain().unwrap()
}

/// A chain that rejects the first row of each batch, and keeps a truncate that is the second one back.
pub(crate) fn chain_that_rejects_and_keeps_back(is_back: bool) -> Chain {
    let first = arr(&[i(0), i(6), i(1), s("no")]);
    let kept_back = ints(&[1, 1]);
    let guest = Guest {
        features: &["truncates"],
        batch: actions(&[vec![first], if is_back { vec![kept_back] } else { vec![] }].concat()),
        ..rejecting(0)
    };
    guest.chain().unwrap()
}

fn rejecting(rejected: i64) -> Guest {
    Guest {
        policies: Policies {
            on_error: OnError::DeadLetter,
            ..STOP
        },
        ..transform(
            wishes(&[1], &[], None),
            actions(&[arr(&[i(rejected), i(6), i(1), s("no")])]),
        )
    }
}

fn masking(rows: usize) -> Guest {
    let patches: Vec<_> = (0..rows).map(|image| patch(image as i64, 1, s("***"))).collect();
    transform(wishes(&[1], &[1], None), actions(&patches))
}

/// A chain whose plugin breaks on its first batch.
pub(crate) fn chain_that_breaks() -> Chain {
    filter(wishes(&[0], &[], None), arr(&[i(77)])).chain().unwrap()
}

pub(super) fn transform(schema: Vec<u8>, batch: Vec<u8>) -> Guest {
    Guest {
        kind: "transform",
        ..filter(schema, batch)
    }
}

fn quoted(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "\\{byte:02x}").unwrap();
        text
    })
}

const INIT_AT: usize = 1024;
const SCHEMA_AT: usize = 2048;
const BATCH_AT: usize = 16 * 1024;

impl Guest {
    pub fn wat(&self) -> String {
        let answer = |at: usize, bytes: &[u8]| format!("(i64.const {})", (at << 32 | bytes.len()) as i64);
        let data = |at: usize, bytes: &[u8]| format!("(data (i32.const {at}) \"{}\")", quoted(bytes));
        let heap = (BATCH_AT + self.batch.len()).next_multiple_of(65_536);
        let section = {
            let mut fields = vec![s("kind"), s(self.kind), s("version"), s("0.3.1"), s("features")];
            fields.push(arr(&self.features.iter().map(|feature| s(feature)).collect::<Vec<_>>()));
            if let Some(schema) = self.config_schema {
                fields.extend([s("config_schema"), s(schema)]);
            }
            let mut section = vec![0x80 | (fields.len() / 2) as u8];
            section.extend(fields.concat());
            quoted(&section)
        };
        format!(
            r#"(module
                {imports}
                (memory (export "memory") {pages})
                {data}
                (global $next (mut i32) (i32.const {heap}))
                {row}
                (func (export "rowmill_abi") (result i32) (i32.const {abi}))
                (func (export "rowmill_alloc") (param $len i32) (result i32) (local $at i32)
                    (local.set $at (global.get $next))
                    (global.set $next (i32.add (local.get $at) (local.get $len)))
                    (if (i32.gt_u (global.get $next) (i32.mul (memory.size) (i32.const 65536)))
                        (then (if (i32.lt_s (memory.grow (i32.shr_u (local.get $len) (i32.const 16))) (i32.const 0))
                            (then (global.set $next (local.get $at)) (return (i32.const 0))))))
                    (local.get $at))
                (func (export "rowmill_free") (param i32 i32))
                (func (export "rowmill_init") (param i32 i32) (result i64) {init})
                (func (export "rowmill_schema") (param i32 i32) (result i64) {schema})
                (func (export "rowmill_batch") (param $ptr i32) (param $len i32) (result i64) {batch})
                (@custom "rowmill.plugin" "{section}"))"#,
            imports = self.imports,
            row = self.row,
            pages = heap / 65_536,
            data = [
                data(INIT_AT, &self.init),
                data(SCHEMA_AT, &self.schema),
                data(BATCH_AT, &self.batch)
            ]
            .join("\n"),
            abi = self.abi,
            init = answer(INIT_AT, &self.init),
            schema = answer(SCHEMA_AT, &self.schema),
            batch = self.body.map_or_else(|| answer(BATCH_AT, &self.batch), str::to_owned),
        )
    }

    pub fn version(&self, name: &str) -> Result<PluginVersion, PluginError> {
        let bytes = wat::parse_str(self.wat()).unwrap();
        let limits = limits();
        let module = ENGINE.load(&bytes, &limits)?;
        Ok(PluginVersion {
            name: name.to_owned(),
            module,
            config: serde_json::json!({"a": [1, "x"]}),
            limits,
            policies: self.policies,
        })
    }

    pub fn chain(&self) -> Result<Chain, PluginError> {
        Chain::new(&ENGINE, &[self.version("guest")?], FilterMode::Membership, Mode::Live)
    }
}

/// A table; each column is name, type and whether it is part of the key.
pub(super) fn table(columns: &[(&str, u32, bool)]) -> Arc<Relation> {
    let columns: Vec<Column> = columns
        .iter()
        .enumerate()
        .map(|(slot, (name, type_oid, key))| Column {
            name: (*name).to_owned(),
            type_oid: *type_oid,
            typmod: -1,
            type_name: "t".to_owned(),
            nullable: true,
            key: *key,
            slot: slot as u16,
        })
        .collect();
    Arc::new(Relation {
        index: Relation::next_index(),
        version: 1,
        oid: 1,
        schema: "public".to_owned(),
        table: "t".to_owned(),
        replica_identity: ReplicaIdentity::Default,
        slots: columns.len() as u16,
        columns,
    })
}

/// `id int4 key, email text`
pub(super) fn people() -> Arc<Relation> {
    table(&[("id", INT4, true), ("email", TEXT, false)])
}

pub(super) fn batch(relation: &Arc<Relation>) -> Batch {
    let transaction = Transaction {
        xid: 7,
        commit_lsn: Lsn(0x10),
        end_lsn: Lsn(0x18),
        commit_us: -5,
        part: Part::Whole,
        origin: Origin::Stream,
    };
    Batch {
        relations: vec![Arc::clone(relation)],
        transactions: vec![transaction],
        ..Batch::default()
    }
}

/// `~` unchanged, `-` absent, `null`, anything else a text.
pub(super) fn tuple(batch: &mut Batch, values: &[&str]) -> Tuple {
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

pub(super) fn row(batch: &mut Batch, op: Op, old: Option<(OldImage, &[&str])>, new: Option<&[&str]>) -> Row {
    Row {
        relation: 0,
        transaction: 0,
        ordinal: 0,
        old: old.map(|(_, values)| tuple(batch, values)),
        new: new.map(|values| tuple(batch, values)),
        extra: 0,
        fan_out: 0,
        op,
        old_image: old.map_or(OldImage::Full, |(image, _)| image),
    }
}

/// Rows as text: operation, old image in parentheses, new image.
pub(super) fn shown(batch: &Batch, rows: &[Row]) -> Vec<String> {
    let image = |row: &Row, tuple: Tuple| {
        let values = batch
            .values(tuple, &batch.relations[row.relation as usize])
            .map(|value| match value {
                Value::Null => "null".to_owned(),
                Value::Unchanged => "~".to_owned(),
                Value::Absent => "-".to_owned(),
                Value::Text(text) | Value::Binary(text) => String::from_utf8_lossy(text).into_owned(),
            });
        values.collect::<Vec<_>>().join(" ")
    };
    rows.iter()
        .map(|row| {
            let mut text = row.op.name().to_owned();
            if let Some(old) = row.old {
                write!(text, " ({})", image(row, old)).unwrap();
            }
            if let Some(new) = row.new {
                write!(text, " {}", image(row, new)).unwrap();
            }
            text
        })
        .collect()
}

pub(super) fn text_of(error: &PluginError) -> String {
    let problem = error.problem();
    format!(
        "{problem} {} [{}]",
        problem.cause.as_deref().unwrap_or_default(),
        problem.help
    )
}
