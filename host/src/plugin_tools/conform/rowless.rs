//! Truncates and logical messages, for plugins that ask for them.

use super::{Case, Verdict, case, cut_independent, deterministic, settled};
use crate::batch::{Batch, Lsn, Message, OldImage, Op, Row, Truncate};
use crate::plugin_tools::Subject;
use bytes::Bytes;
use rowmill_abi::manifest::{FEATURE_MESSAGES, FEATURE_TRUNCATES};

/// Changes between two of them.
const DISTANCE: usize = 3;
const LARGE_BYTES: usize = 1 << 20;

pub(super) fn cases(subject: &Subject, usable: &[(String, Batch)]) -> Vec<Case> {
    let features = &subject.version.module.manifest().features;
    let asks = |feature: &str| features.iter().any(|asked| asked == feature);
    let mut cases = Vec::new();
    if asks(FEATURE_TRUNCATES) {
        for (name, batch) in usable {
            let between = with(batch, Op::Truncate);
            cases.extend(run(subject, &format!("truncates: {name}"), &between));
        }
    } else {
        cases.push(not_asked("truncates"));
    }
    if asks(FEATURE_MESSAGES) {
        for (name, batch) in usable {
            let between = with(batch, Op::Message);
            cases.extend(run(subject, &format!("messages: {name}"), &between));
        }
        let alone = with(&Batch::default(), Op::Message);
        cases.extend(run(subject, "messages: alone", &alone));
    } else {
        cases.push(not_asked("messages"));
    }
    cases
}

fn not_asked(feature: &str) -> Case {
    let why = format!("its manifest doesn't ask for {feature}");
    case(feature, Verdict::NotApplicable(why))
}

fn run(subject: &Subject, name: &str, batch: &Batch) -> [Case; 3] {
    [
        case(&format!("{name}: taken"), settled(subject, batch)),
        case(&format!("{name}: the same again"), deterministic(subject, batch)),
        case(
            &format!("{name}: however batches are cut"),
            cut_independent(subject, batch),
        ),
    ]
}

/// A batch with one of them after each few changes, two next to each other at its end, and one of each kind at least.
pub(super) fn with(batch: &Batch, op: Op) -> Batch {
    let mut between = Batch {
        rows: Vec::new(),
        ..batch.clone()
    };
    if between.transactions.is_empty() {
        between.transactions.push(super::rows::transaction(0));
    }
    let mut count = 0;
    let mut push = |between: &mut Batch, transaction: u32| {
        let extra = match op {
            Op::Truncate => truncate(between, count),
            _ => message(between, count),
        };
        count += 1;
        between.rows.push(Row {
            relation: 0,
            transaction,
            ordinal: 0,
            new: None,
            old: None,
            extra,
            fan_out: 0,
            op,
            old_image: OldImage::Full,
        });
    };
    for (at, row) in batch.rows.iter().enumerate() {
        between.rows.push(*row);
        if at % DISTANCE == 0 {
            push(&mut between, row.transaction);
        }
    }
    let last = (between.transactions.len() - 1) as u32;
    for _ in 0..4 {
        push(&mut between, last);
    }
    for (at, row) in between.rows.iter_mut().enumerate() {
        row.ordinal = at as u64;
    }
    between
}

fn truncate(batch: &mut Batch, count: usize) -> u32 {
    batch.truncates.push(Truncate {
        relations: (0..batch.relations.len() as u32).collect(),
        cascade: count & 1 == 1,
        restart_identity: count & 2 == 2,
    });
    (batch.truncates.len() - 1) as u32
}

fn message(batch: &mut Batch, count: usize) -> u32 {
    let (prefix, content) = match count % 4 {
        0 => ("rowmill", Bytes::from_static(b"{\"a\": 1}")),
        1 => ("", Bytes::new()),
        2 => ("größe \u{1F980}", Bytes::from_static(&[0, 0xff, 0x10])),
        _ => ("large", Bytes::from(vec![b'x'; LARGE_BYTES])),
    };
    batch.messages.push(Message {
        transactional: count.is_multiple_of(2),
        lsn: Lsn(0x10 + count as u64),
        prefix: prefix.to_owned(),
        content,
    });
    (batch.messages.len() - 1) as u32
}
