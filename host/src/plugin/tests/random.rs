//! Random bytes: the same for the same row, by the formula in the contract.

use super::*;
use crate::batch::{CopyUnit, Replay};
use sha2::{Digest, Sha256};

const BYTEA: u32 = 17;
const BYTES: usize = 8;

fn noises() -> Arc<Relation> {
    table(&[("id", INT4, true), ("noise", BYTEA, false)])
}

/// Writes eight random bytes of the first row into its column `noise`.
fn writes_noise() -> Guest {
    let reply = actions(&[patch(0, 1, bin(&[0; BYTES]))]);
    let at = BATCH_AT + reply.len() - BYTES;
    let answer = BATCH_AT << 32 | reply.len();
    let body = format!("(call $random (i32.const 0) (i32.const {at}) (i32.const {BYTES})) (i64.const {answer})");
    Guest {
        imports: r#"(import "rowmill" "random" (func $random (param i32 i32 i32)))"#,
        body: Some(body.leak()),
        ..transform(wishes(&[0], &[1], None), reply)
    }
}

/// What a row with this origin and number gets.
fn noise(origin: Origin, ordinal: u64) -> String {
    let mut batch = batch(&noises());
    batch.transactions[0].origin = origin;
    let mut rows = vec![row(&mut batch, Op::Insert, None, Some(&["1", "null"]))];
    rows[0].ordinal = ordinal;
    let mut chain = writes_noise().chain().unwrap();
    chain.process(&mut batch, &mut rows, &mut Processed::default()).unwrap();
    shown(&batch, &rows)[0].clone()
}

/// The formula of docs/reference/plugin-abi.md.
fn expected(position: u64, ordinal: u64) -> String {
    let mut hash = Sha256::new();
    hash.update("guest");
    for number in [position, ordinal << 16, 0] {
        hash.update(number.to_be_bytes());
    }
    let digits = hash.finalize()[..BYTES].iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    });
    format!("insert 1 \\x{digits}")
}

/// Guests rely on it from release to release.
#[test]
fn bytes_follow_from_the_name_the_commit_and_the_change() {
    assert_eq!(noise(Origin::Stream, 0), expected(0x10, 0));
    assert_eq!(noise(Origin::Stream, 3), expected(0x10, 3));
    let unit = CopyUnit {
        epoch: 2,
        table_oid: 16_400,
        unit: 5,
    };
    let position = (16_400 << 32 | 5) ^ (2 << 56);
    assert_eq!(noise(Origin::Copy(unit), 3), expected(position, 3));
}

/// A dead letter that is sent again is the row that it was.
#[test]
fn a_replay_gives_the_same_bytes() {
    let unit = CopyUnit {
        epoch: 1,
        table_oid: 16_400,
        unit: 5,
    };
    let replay = |copy| {
        Origin::Replay(Replay {
            request: 9,
            letter: 4,
            copy,
        })
    };
    assert_eq!(noise(replay(None), 3), noise(Origin::Stream, 3));
    assert_eq!(noise(replay(Some(unit)), 3), noise(Origin::Copy(unit), 3));
}

/// Two rows that one plugin makes of a change are two rows to the next one.
#[test]
fn rows_of_a_fan_out_have_bytes_of_their_own() {
    let made = |id: i64| arr(&[i(0), i(0), arr(&[i(id), s("made")]), nil()]);
    let fanning = transform(
        wishes(&[0], &[0, 1], None),
        actions(&[arr(&[i(0), i(4), arr(&[made(1), made(2)])])]),
    );
    let comparing = Guest {
        imports: r#"(import "rowmill" "random" (func $random (param i32 i32 i32)))"#,
        body: Some(
            "(call $random (i32.const 0) (i32.const 0) (i32.const 8))
            (call $random (i32.const 1) (i32.const 8) (i32.const 8))
            (if (i64.eq (i64.load (i32.const 0)) (i64.load (i32.const 8))) (then (unreachable)))
            (i64.const 0x0000400000000004)",
        ),
        ..transform(wishes(&[1], &[1], None), actions(&[]))
    };
    let versions = [
        fanning.version("fanning").unwrap(),
        comparing.version("comparing").unwrap(),
    ];
    let mut chain = Chain::new(&ENGINE, &versions, FilterMode::Membership, Mode::Live).unwrap();
    let mut batch = batch(&people());
    let mut rows = vec![row(&mut batch, Op::Insert, None, Some(&["1", "a"]))];
    chain.process(&mut batch, &mut rows, &mut Processed::default()).unwrap();
    assert_eq!(shown(&batch, &rows), ["insert 1 made", "insert 2 made"]);
    assert_eq!(rows.iter().map(|row| row.fan_out).collect::<Vec<_>>(), [0, 1]);
}
