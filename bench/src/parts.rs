//! Parts of the way of a row, each over the same input: what the gate counts instructions of, and the
//! micro-benchmarks take the time of.

use crate::binary_form;
use crate::fixed;
use crate::rows::{COLUMNS, ROWS};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use rowmill::batch::{Batch, Row, Transaction, Value};
use rowmill::config::{Duration, FilterMode, Limits, OnError, OnFault, Policies};
use rowmill::decode::{CopyDecoder, Decoder};
use rowmill::measuring;
use rowmill::plugin::{Chain, Engine, Mode, PluginVersion, Processed};
use rowmill::plugin_tools::DEFAULT_LIMITS;
use rowmill::sink::{SinkContext, json};
use serde_json::json;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

/// A profiler makes everything fifty times as slow.
const PATIENT: Limits = Limits {
    compile_time: Duration::from_secs(600),
    time: Duration::from_secs(600),
    ..DEFAULT_LIMITS
};

/// The rows of a round, and what does one.
type Made = (u64, Box<dyn FnMut()>);
pub struct Part {
    pub name: &'static str,
    make: fn() -> Result<Made>,
}

pub const PARTS: [Part; 13] = [
    part("frames", frames),
    part("decode", decode),
    part("decode_binary", decode_binary),
    part("decode_wide", decode_wide),
    part("decode_copy", decode_copy),
    part("encode", encode),
    part("plugin_filter", || plugin("filter_one", json!({}))),
    part("plugin_mask", || plugin("mask_one", json!({"column": "email"}))),
    part("plugin_typed", || plugin("typed_six", json!({}))),
    part("apply_filter", || apply("filter_one", json!({}))),
    part("apply_mask", || apply("mask_one", json!({"column": "email"}))),
    part("json_lines", json_lines),
    part("copy_lines", copy_lines),
];

const fn part(name: &'static str, make: fn() -> Result<Made>) -> Part {
    Part { name, make }
}

/// The rows of a round, and a closure that does one.
pub fn make(name: &str) -> Result<Made> {
    let part = PARTS.iter().find(|part| part.name == name);
    (part.with_context(|| format!("there is no part {name}"))?.make)()
}

/// Rows of the stream's three transactions.
const STREAMED: u64 = ROWS + ROWS / 2 + ROWS / 4;

fn frames() -> Result<Made> {
    let stream = fixed::stream();
    let round = move || assert_eq!(measuring::frame_bytes(black_box(&stream)), stream.len());
    Ok((STREAMED, Box::new(round)))
}

fn decode() -> Result<Made> {
    let stream: Bytes = fixed::stream();
    // One decoder as long as the connection lasts: its guess of a batch's size holds from the second round on.
    let mut decoder = Decoder::new([]);
    let mut round = move || {
        let batch = decoder.decode(stream.clone()).expect("a stream that is well-formed");
        assert_eq!(batch.rows.len() as u64, STREAMED);
        black_box(batch);
    };
    round();
    Ok((STREAMED, Box::new(round)))
}

/// The same rows with values in binary form, to the same texts.
fn decode_binary() -> Result<Made> {
    let (text, stream) = (Decoder::new([]).decode(fixed::stream())?, fixed::stream_binary());
    let mut decoder = Decoder::new([]).with_binary(Arc::new(binary_form::types()));
    let found = decoder.decode(stream.clone())?;
    for (binary, text_row) in found.rows.iter().zip(&text.rows) {
        let image = binary.new.or(binary.old).context("an image")?;
        let expected = text_row.new.or(text_row.old).context("an image")?;
        for slot in 0..COLUMNS.len() as u16 {
            ensure!(
                is_same(found.value(image, slot), text.value(expected, slot)),
                "column {slot} isn't the same"
            );
        }
    }
    let round = move || {
        let batch = decoder.decode(stream.clone()).expect("a stream that is well-formed");
        assert_eq!(batch.rows.len() as u64, STREAMED);
        black_box(batch);
    };
    Ok((STREAMED, Box::new(round)))
}

/// A float's text made of its bits is the shortest one; the fixed rows have zeros behind.
fn is_same(found: Value<'_>, expected: Value<'_>) -> bool {
    let number = |value: Value<'_>| {
        value
            .text()
            .and_then(|text| std::str::from_utf8(text).ok()?.parse::<f64>().ok())
    };
    found == expected || number(found).is_some_and(|found| number(expected) == Some(found))
}

/// Decodes a transaction of inserts with so many columns.
pub fn decode_columns(columns: usize) -> impl FnMut() {
    let stream = fixed::inserts(columns);
    let mut decoder = Decoder::new([]);
    move || {
        black_box(decoder.decode(stream.clone()).expect("a stream that is well-formed"));
    }
}

/// Of as many columns as nobody reads all of.
const WIDE: usize = 200;

fn decode_wide() -> Result<Made> {
    let mut round = decode_columns(WIDE);
    round();
    Ok((ROWS, Box::new(round)))
}

/// As a first copy has them: the very frames that a COPY sends, one for each line.
fn decode_copy() -> Result<Made> {
    let batch = fixed::batch(COLUMNS.len())?;
    let transaction: Transaction = *batch.transactions.first().context("a transaction")?;
    let frames = fixed::copy_frames();
    let mut decoder = CopyDecoder::new(Arc::clone(&batch.relations[0]));
    let mut round = move || {
        let batch = decoder.decode(frames.clone(), transaction);
        assert_eq!(
            black_box(batch).expect("lines that are well-formed").rows.len() as u64,
            ROWS
        );
    };
    round();
    Ok((ROWS, Box::new(round)))
}

fn encode() -> Result<Made> {
    let (engine, batch) = (Engine::new(None)?, fixed::batch(COLUMNS.len())?);
    let mut rows = measuring::GuestRows::new(&engine, &version(&engine, "typed_six", &json!({}))?)?;
    rows.encode(&batch)?;
    let round = move || {
        black_box(rows.encode(&batch).expect("a plugin that has taken the table"));
    };
    Ok((ROWS, Box::new(round)))
}

/// A plugin's reply, checked and applied: what a call does behind the guest.
fn apply(guest: &str, config: serde_json::Value) -> Result<Made> {
    let (engine, batch) = (Engine::new(None)?, fixed::batch(COLUMNS.len())?);
    let reply = measuring::Reply::new(&engine, &version(&engine, guest, &config)?, &batch)?;
    let mut reply = reply.context("a plugin that takes every row")?;
    let mut through = batch.clone();
    let mut round = move || {
        through.take_back(0);
        through.cells.truncate(batch.cells.len());
        through.arena.truncate(batch.arena.len());
        through.relations.truncate(batch.relations.len());
        through.change_in_place(true);
        assert!(reply.apply(&batch.rows, &mut through) > 0);
    };
    round();
    Ok((ROWS, Box::new(round)))
}

fn plugin(guest: &str, config: serde_json::Value) -> Result<Made> {
    let (mut chain, batch) = (chain(&[(guest, config)])?, fixed::batch(COLUMNS.len())?);
    chain.relation(&batch.relations[0])?;
    let (mut through, mut rows) = (batch.clone(), Vec::new());
    let mut round = move || once(&mut chain, &batch, &mut through, &mut rows);
    round();
    Ok((ROWS, Box::new(round)))
}

/// A chain of guests of `bench/plugins`, each with its configuration.
pub fn chain(guests: &[(&str, serde_json::Value)]) -> Result<Chain> {
    let engine = Engine::new(None)?;
    let versions = guests.iter().map(|(guest, config)| version(&engine, guest, config));
    let versions = versions.collect::<Result<Vec<_>>>()?;
    Ok(Chain::new(&engine, &versions, FilterMode::Membership, Mode::Live)?)
}

/// Sends the batch through; `through` and `rows` are reused from round to round.
pub fn once(chain: &mut Chain, batch: &Batch, through: &mut Batch, rows: &mut Vec<Row>) {
    again(batch, through, rows);
    through_once(chain, through, rows);
}

/// Makes `through` and `rows` what came: `batch`, of which it is a copy.
pub fn again(batch: &Batch, through: &mut Batch, rows: &mut Vec<Row>) {
    through.take_back(0);
    through.cells.truncate(batch.cells.len());
    through.arena.truncate(batch.arena.len());
    through.relations.truncate(batch.relations.len());
    rows.clear();
    rows.extend_from_slice(&batch.rows);
}

/// As a lane does where no other route has the rows.
pub fn through_once(chain: &mut Chain, through: &mut Batch, rows: &mut Vec<Row>) {
    chain
        .process_in_place(through, rows, &mut Processed::default())
        .expect("a plugin that takes every row");
}

fn json_lines() -> Result<Made> {
    let batch = fixed::batch(COLUMNS.len())?;
    let (mut encoder, mut out) = (json::Encoder::new(7_301_000_000_000_000_000), Vec::new());
    let mut round = move || {
        out.clear();
        encoder.transaction(&batch.transactions[0]);
        for row in &batch.rows {
            encoder
                .row(black_box(&batch), row, &mut out)
                .expect("text in every column");
        }
    };
    round();
    Ok((ROWS, Box::new(round)))
}

fn copy_lines() -> Result<Made> {
    let batch = fixed::batch(COLUMNS.len())?;
    let context = SinkContext {
        pipeline: "bench".into(),
        slot: "bench".into(),
        sink: "target".into(),
        system_identifier: 1,
        source_database: String::new(),
        state_dir: "/nonexistent".into(),
        passed_over: Arc::default(),
        known: Arc::default(),
        types: Arc::default(),
        changes: Arc::default(),
    };
    let mut out = Vec::new();
    let mut round = move || {
        out.clear();
        measuring::copy_lines(black_box(&batch), &context, &mut out);
    };
    round();
    Ok((ROWS, Box::new(round)))
}

fn version(engine: &Arc<Engine>, guest: &str, config: &serde_json::Value) -> Result<PluginVersion> {
    let path = Path::new("target/wasm32-unknown-unknown/plugin").join(format!("{guest}.wasm"));
    let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
    Ok(PluginVersion {
        name: guest.to_owned(),
        module: engine.load(&bytes, &PATIENT)?,
        config: config.clone(),
        limits: PATIENT,
        policies: Policies {
            on_error: OnError::Stop,
            on_fault: OnFault::Stop,
            max_faults: 1,
        },
    })
}
