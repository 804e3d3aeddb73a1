//! What calls that fail, and instances that break, leave behind: no more than one of them.

use super::*;
use crate::plugin::GuestMetrics;
use crate::plugin::deadline::thread_cpu_time;
use std::time::Duration as Time;

const SET_ASIDE: Policies = Policies {
    on_error: OnError::DeadLetter,
    on_fault: OnFault::Isolate,
    max_faults: 1_000,
};

fn roomy() -> Limits {
    Limits {
        memory: ByteSize(64 << 20),
        output: ByteSize(4 << 20),
        module: ByteSize(4 << 20),
        time: Duration(Time::from_secs(5)),
        ..limits()
    }
}

/// A chain of one plugin, as its text is.
fn chain(wat: &str, limits: &Limits) -> Chain {
    let version = PluginVersion {
        name: "guest".to_owned(),
        module: ENGINE.load(&wat::parse_str(wat).unwrap(), limits).unwrap(),
        config: serde_json::Value::Null,
        limits: *limits,
        policies: SET_ASIDE,
    };
    Chain::new(&ENGINE, &[version], FilterMode::Membership, Mode::Live).unwrap()
}

/// The module with more at the beginning of one of its functions.
fn with_more(guest: &Guest, head: &str, more: &str) -> String {
    let wat = guest.wat();
    assert!(wat.contains(head), "{head}");
    wat.replace(head, &format!("{head} {more}"))
}

/// Inserts of changes of their own.
fn inserts(values: impl IntoIterator<Item = String>) -> (Batch, Vec<Row>) {
    let mut batch = batch(&people());
    let insert = |(at, value): (usize, String)| Row {
        ordinal: at as u64,
        ..row(&mut batch, Op::Insert, None, Some(&["1", &value]))
    };
    let rows = values.into_iter().enumerate().map(insert).collect();
    (batch, rows)
}

fn ordinals(processed: &Processed) -> Vec<u64> {
    processed.aside.iter().map(|aside| aside.row.ordinal).collect()
}

/// It writes a word into the first row of a call; where one of the rows is `evil`, a megabyte, and behind its end a byte.
fn writes_a_megabyte() -> String {
    let honest = actions(&[patch(0, 1, s("kept"))]);
    let evil = [actions(&[patch(0, 1, s(&"x".repeat(1 << 20)))]), vec![0]].concat();
    let body = format!(
        "(local $at i32) (local $end i32)
        (local.set $at (local.get $ptr))
        (local.set $end (i32.sub (i32.add (local.get $ptr) (local.get $len)) (i32.const 4)))
        (block $none (loop $next
            (br_if $none (i32.gt_s (local.get $at) (local.get $end)))
            (if (i32.eq (i32.load (local.get $at)) (i32.const 0x6c697665)) (then (return (i64.const {}))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br $next)))
        (i64.const {})",
        (BATCH_AT + honest.len()) << 32 | evil.len(),
        BATCH_AT << 32 | honest.len(),
    );
    let guest = Guest {
        body: Some(body.leak()),
        ..transform(wishes(&[1], &[1], None), [honest, evil].concat())
    };
    guest.wat()
}

#[test]
fn a_failed_call_leaves_nothing_in_the_batch() {
    let mut chain = chain(&writes_a_megabyte(), &roomy());
    for in_place in [false, true] {
        let evil = [21, 42];
        let email = |at| match evil.contains(&at) {
            true => "evil".to_owned(),
            false => "good".to_owned(),
        };
        let (mut batch, mut rows) = inserts((0..64).map(email));
        let before = batch.extent();
        let mut processed = Processed::default();
        match in_place {
            true => chain.process_in_place(&mut batch, &mut rows, &mut processed).unwrap(),
            false => chain.process(&mut batch, &mut rows, &mut processed).unwrap(),
        }
        assert_eq!((ordinals(&processed), rows.len()), (vec![21, 42], 62));
        let left = shown(&batch, &rows);
        let kept = left.iter().filter(|row| row.as_str() == "insert 1 kept").count();
        assert!(kept > 0);
        let after = batch.extent();
        assert_eq!(
            after.arena - before.arena,
            kept * "kept".len(),
            "what went on, and no more"
        );
        let copied = if in_place { 0 } else { 2 * rows.len() };
        assert!(after.cells - before.cells <= copied, "{after:?}");
        assert!(batch.changes() <= kept);
    }
}

#[test]
fn a_plugin_that_stops_takes_back_what_others_before_it_wrote() {
    let breaking = filter(wishes(&[1], &[], None), arr(&[i(77)]));
    let versions = [masking(3).version("mask").unwrap(), breaking.version("guest").unwrap()];
    let mut chain = Chain::new(&ENGINE, &versions, FilterMode::Membership, Mode::Live).unwrap();
    let (mut batch, mut rows) = inserts(["a", "b", "c"].map(str::to_owned));
    let before = format!("{:?}", batch.extent());
    for _ in 0..3 {
        let failed = chain.process(&mut batch, &mut rows, &mut Processed::default());
        assert!(failed.is_err());
        assert_eq!(format!("{:?}", batch.extent()), before);
        assert_eq!(shown(&batch, &rows), ["insert 1 a", "insert 1 b", "insert 1 c"]);
    }
}

/// A hundred names by the clock, as it starts.
#[test]
fn instances_that_break_have_the_names_of_one() {
    let guest = Guest {
        imports: r#"(import "rowmill" "metric" (func $metric (param i32 i32 i32 f64)))
            (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))"#,
        body: Some("(unreachable)"),
        ..transform(wishes(&[1], &[1], None), Vec::new())
    };
    let names = "(local $at i32) (local $digit i32) (local $value i64)
        (drop (call $clock (i32.const 0) (i64.const 0) (i32.const 0)))
        (loop $names
            (local.set $value (i64.add (i64.load (i32.const 0)) (i64.extend_i32_u (local.get $at))))
            (local.set $digit (i32.const 0))
            (loop $digits
                (i32.store8 (i32.add (i32.const 8) (local.get $digit))
                    (i32.add (i32.const 97) (i32.and (i32.wrap_i64 (local.get $value)) (i32.const 15))))
                (local.set $value (i64.shr_u (local.get $value) (i64.const 4)))
                (local.set $digit (i32.add (local.get $digit) (i32.const 1)))
                (br_if $digits (i32.lt_u (local.get $digit) (i32.const 16))))
            (call $metric (i32.const 0) (i32.const 8) (i32.const 16) (f64.const 1))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if $names (i32.lt_u (local.get $at) (i32.const 100))))";
    let head = r#"(func (export "rowmill_init") (param i32 i32) (result i64)"#;
    let mut chain = chain(&with_more(&guest, head, names), &roomy());
    let (mut batch, mut rows) = inserts((0..10).map(|at| at.to_string()));
    let mut processed = Processed::default();
    chain.process(&mut batch, &mut rows, &mut processed).unwrap();
    assert_eq!(processed.aside.len(), 10);
    assert!(processed.counts.instances_made >= 10, "{:?}", processed.counts);
    let metrics = GuestMetrics::default();
    chain.take_metrics(&metrics);
    assert_eq!(metrics.take().len(), 100);
}

/// It takes its time to find that it has no room for more than 64 KiB.
fn slow_to_refuse(limits: &Limits) -> Chain {
    let head = r#"(func (export "rowmill_alloc") (param $len i32) (result i32) (local $at i32)"#;
    let more = "(local $left i32)
        (if (i32.gt_u (local.get $len) (i32.const 65536)) (then
            (local.set $left (i32.const 10000000))
            (loop $on
                (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                (br_if $on (local.get $left)))
            (return (i32.const 0))))";
    let guest = transform(wishes(&[1], &[1], None), actions(&[]));
    chain(&with_more(&guest, head, more), limits)
}

/// Several in a call, and one that is a call by itself.
#[test]
fn rows_that_do_not_fit_have_a_bound_of_time_in_all() {
    for (bytes, in_a_call) in [(70_000, 3), (300_000, 1)] {
        let large = |rows: usize| inserts((0..rows).map(|_| "x".repeat(bytes)));
        let mut patient = slow_to_refuse(&roomy());
        let (mut batch, mut rows) = large(in_a_call);
        let mut processed = Processed::default();
        let began = thread_cpu_time();
        patient.process(&mut batch, &mut rows, &mut processed).unwrap();
        let one_call = thread_cpu_time() - began;
        assert_eq!((processed.aside.len(), rows.len()), (in_a_call, 0));

        let hurried = Limits {
            isolation: Duration(one_call * 3),
            ..roomy()
        };
        let mut hurried = slow_to_refuse(&hurried);
        let (mut batch, mut rows) = large(in_a_call * 20);
        let mut processed = Processed::default();
        let error = hurried.process(&mut batch, &mut rows, &mut processed).unwrap_err();
        let text = text_of(&error);
        assert!(
            text.contains("E0314") && text.contains("don't fit into its memory"),
            "{text}"
        );
        assert_eq!((processed.aside.len(), rows.len()), (0, in_a_call * 20));
        // Each batch has its time.
        let (mut batch, mut rows) = large(in_a_call);
        hurried.process(&mut batch, &mut rows, &mut processed).unwrap();
        assert_eq!((processed.aside.len(), rows.len()), (in_a_call, 0));
    }
}
