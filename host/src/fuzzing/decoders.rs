//! The server's bytes and a module's.

use crate::assemble::{Assembler, Ledger, begin_prepared};
use crate::batch::{Batch, Column, Lsn, Origin, Part, Relation, ReplicaIdentity, Row, Transaction};
use crate::decode::{CopyDecoder, Decoder, Types};
use crate::plugin::fuzzing::{Manifest, ModuleFile};
use crate::sink::json;
use bytes::Bytes;
use std::sync::Arc;

/// Begin, relation, insert and the like as frames of a replication connection: what isn't there is added in front of
/// each message, so that the fuzzer spends its bytes on messages alone.
pub(super) fn pgoutput(bytes: &[u8]) {
    // Messages are cut by a length of one byte; what a length can't reach is one message more.
    let mut frames = Vec::new();
    let mut rest = bytes;
    while let Some((len, behind)) = rest.split_first() {
        let (message, behind) = behind.split_at(usize::from(*len).min(behind.len()));
        frames.push(b'd');
        frames.extend_from_slice(&(4 + 25 + message.len() as u32).to_be_bytes());
        frames.push(b'w');
        frames.extend_from_slice(&[0; 24]);
        frames.extend_from_slice(message);
        rest = behind;
    }
    // Once as they are, as frames and all are the server's.
    let _ = Decoder::default().decode(Bytes::copy_from_slice(bytes));
    let frames = Bytes::from(frames);
    streamed(&frames);
    let Ok(batch) = Decoder::default().decode(frames) else {
        return;
    };
    batch.rows.iter().for_each(|row| is_whole(&batch, row));
}

/// The same as blocks of transactions in progress, and prepared ones.
fn streamed(frames: &Bytes) {
    let folder = std::env::temp_dir().join(format!("rowmill-fuzz-{}", std::process::id()));
    let Ok(assembler) = Assembler::new(&folder, 1 << 20, Arc::default()) else {
        return;
    };
    // Not always: an fsync costs more than all the rest.
    let mut assembler = if frames.len().is_multiple_of(4) {
        let kept = begin_prepared(&folder)
            .and_then(|()| assembler.keep_prepared(&folder, Lsn(0), || Lsn(0), Ledger::default()));
        let Ok(assembler) = kept else { return };
        assembler
    } else {
        assembler
    };
    let mut decoder = Decoder::default();
    let _ = assembler.feed(frames, |bytes| {
        let batch = decoder.decode(bytes)?;
        batch.rows.iter().for_each(|row| is_whole(&batch, row));
        Ok::<(), crate::decode::DecodeError>(())
    });
}

/// A binary COPY of one row with one value, of the type that the first byte says.
pub(super) fn binary_value(bytes: &[u8]) {
    let Some((oid, value)) = bytes.split_first() else {
        return;
    };
    for version in [150_000, 180_000] {
        let types = Arc::new(Types::of_every_form(version));
        let oid = u32::from(*oid) % (Types::FORMS + 2);
        let mut body = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x01".to_vec();
        body.extend_from_slice(&(value.len() as u32).to_be_bytes());
        body.extend_from_slice(value);
        let mut frames = vec![b'd'];
        frames.extend_from_slice(&(4 + body.len() as u32).to_be_bytes());
        frames.extend_from_slice(&body);
        let relation = table([("c", oid, false)].into_iter());
        let mut decoder = CopyDecoder::new(relation).with_binary(types);
        if let Ok(batch) = decoder.decode(Bytes::from(frames), transaction()) {
            batch.rows.iter().for_each(|row| is_whole(&batch, row));
        }
    }
    // As the messages of a COPY, which any bytes may be.
    let relation = table([("c", 1, false), ("d", 20, false)].into_iter());
    let mut decoder = CopyDecoder::new(relation).with_binary(Arc::new(Types::of_every_form(150_000)));
    let _ = decoder.decode(Bytes::copy_from_slice(bytes), transaction());
}

/// Lines of COPY for a table of as many columns as the first byte says: one by one, and as what they are in frames.
pub(super) fn copy_row(bytes: &[u8]) {
    let Some((columns, lines)) = bytes.split_first() else {
        return;
    };
    let columns: Vec<(String, u32)> = (0..columns % 9).map(|at| (format!("c{at}"), 25)).collect();
    let relation = table(columns.iter().map(|(name, oid)| (name.as_str(), *oid, false)));
    // As they are they may be frames, too.
    let mut decoder = CopyDecoder::new(Arc::clone(&relation));
    if let Ok(batch) = decoder.decode(Bytes::copy_from_slice(lines), transaction()) {
        batch.rows.iter().for_each(|row| is_whole(&batch, row));
    }
    let mut frames = Vec::new();
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        frames.push(b'd');
        frames.extend_from_slice(&(4 + line.len() as u32).to_be_bytes());
        frames.extend_from_slice(line);
    }
    let framed = CopyDecoder::new(Arc::clone(&relation)).decode(frames.into(), transaction());
    let mut decoder = CopyDecoder::new(relation);
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        if decoder.push(line).is_err() {
            assert!(framed.is_err());
            return;
        }
    }
    let batch = decoder.finish(transaction());
    batch.rows.iter().for_each(|row| is_whole(&batch, row));
    let framed = framed.expect("each of the lines was taken");
    assert_eq!(framed.rows.len(), batch.rows.len());
    for (one, other) in framed.rows.iter().zip(&batch.rows) {
        let (Some(one), Some(other)) = (one.new, other.new) else {
            continue;
        };
        let relation = &batch.relations[0];
        assert!(framed.values(one, relation).eq(batch.values(other, relation)));
    }
}

pub(super) fn manifest(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::parse(bytes) {
        assert!(manifest.features.len() <= bytes.len());
    }
}

/// A module as far as it is read before anything is compiled.
pub(super) fn module_bytes(bytes: &[u8]) {
    let Ok(file) = ModuleFile::parse(bytes) else {
        return;
    };
    assert!(file.imports.len() + file.exports.len() <= bytes.len());
    if let Some(Ok(manifest)) = file.manifest.map(Manifest::parse)
        && let Some(schema) = manifest.config_schema
    {
        let _ = serde_json::from_str::<serde_json::Value>(&schema);
    }
}

pub(super) fn table<'a>(columns: impl Iterator<Item = (&'a str, u32, bool)>) -> Arc<Relation> {
    let column = |(slot, (name, type_oid, key)): (usize, (&str, u32, bool))| Column {
        name: name.to_owned(),
        type_oid,
        typmod: -1,
        type_name: "t".to_owned(),
        nullable: true,
        key,
        slot: slot as u16,
    };
    let columns: Vec<Column> = columns.enumerate().map(column).collect();
    Arc::new(Relation {
        index: 1,
        version: 1,
        oid: 1,
        schema: "public".to_owned(),
        table: "t".to_owned(),
        replica_identity: ReplicaIdentity::Full,
        slots: columns.len() as u16,
        columns,
    })
}

pub(super) fn transaction() -> Transaction {
    Transaction {
        xid: 7,
        commit_lsn: Lsn(0x10),
        end_lsn: Lsn(0x18),
        commit_us: 0,
        part: Part::Whole,
        origin: Origin::Stream,
    }
}

/// All that a row points to is there, and it has a form for a sink or an error that says why not.
pub(super) fn is_whole(batch: &Batch, row: &Row) {
    batch.transaction(row);
    // Truncates and messages belong to no one relation.
    for tuple in [row.old, row.new].into_iter().flatten() {
        let slots = usize::from(batch.relation(row).slots);
        assert!(tuple.0 as usize + slots <= batch.cells.len());
    }
    if let Ok(line) = json::line(batch, row, 1) {
        assert_eq!(line.last(), Some(&b'\n'));
        assert_eq!(memchr::memchr_iter(b'\n', &line).count(), 1, "one line");
    }
}
