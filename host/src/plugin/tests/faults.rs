//! Guests that break.

use super::hostile_plugins::TOLD_WITHIN;
use super::*;
use crate::plugin::{Fault, FaultKind};
use std::time::Instant;

fn fault(guest: &Guest) -> Fault {
    let mut chain = guest.chain().unwrap();
    let mut batch = batch(&people());
    let mut rows = vec![
        row(&mut batch, Op::Insert, None, Some(&["1", "a"])),
        row(&mut batch, Op::Insert, None, Some(&["2", "b"])),
    ];
    rows[1].ordinal = 1;
    let before = format!("{rows:?}");
    match chain.process(&mut batch, &mut rows, &mut Processed::default()) {
        Err(PluginError::Fault(fault)) => {
            assert_eq!(format!("{rows:?}"), before, "the rows are as they were");
            *fault
        }
        other => panic!("{other:?}"),
    }
}

fn guest(body: &'static str) -> Guest {
    Guest {
        body: Some(body),
        ..transform(wishes(&[1], &[1], None), Vec::new())
    }
}

#[test]
fn p1_an_endless_loop_is_stopped() {
    let started = Instant::now();
    let fault = fault(&guest("(loop $l (br $l)) (unreachable)"));
    assert_eq!(fault.kind, FaultKind::Timeout);
    assert!(started.elapsed() < TOLD_WITHIN, "{:?}", started.elapsed());
}

#[test]
fn p2_memory_is_capped() {
    let fault = fault(&guest(
        "(loop $l (br_if $l (i32.ge_s (memory.grow (i32.const 1)) (i32.const 0)))) (unreachable)",
    ));
    assert_eq!(fault.kind, FaultKind::Memory);
}

#[test]
fn a_trap_names_plugin_row_and_frame() {
    let panic = r#"(import "rowmill" "panic" (func $panic (param i32 i32)))"#;
    let body = "(i32.store8 (i32.const 8) (i32.const 65)) (i32.store8 (i32.const 9) (i32.const 10))
        (call $panic (i32.const 8) (i32.const 2)) (global.set $row (i32.const 1)) (unreachable)";
    let fault = fault(&Guest {
        imports: panic,
        ..guest(body)
    });
    assert_eq!(fault.kind, FaultKind::Trap);
    assert_eq!(fault.plugin, "guest");
    assert_eq!(fault.hash.len(), 12);
    assert_eq!(fault.panic.as_deref(), Some("A\\n"));
    let row = fault.row.unwrap();
    assert_eq!(
        (row.relation.as_str(), row.commit_lsn, row.ordinal),
        ("public.t", Lsn(0x10), 1)
    );
    assert!(fault.backtrace.unwrap().contains("wasm"));
}

#[test]
fn p3_deep_recursion_traps() {
    let fault = fault(&guest("(call 5 (local.get $ptr) (local.get $len))"));
    assert_eq!(fault.kind, FaultKind::Trap);
    assert!(fault.message.contains("stack"), "{}", fault.message);
}

#[test]
fn a_broken_instance_is_never_called_again() {
    // Traps with another code the second time.
    let body = "(if (i32.load (i32.const 8)) (then (drop (i32.div_s (i32.const 1) (i32.const 0)))))
        (i32.store (i32.const 8) (i32.const 1)) (unreachable)";
    let mut chain = guest(body).chain().unwrap();
    let mut batch = batch(&people());
    let mut rows = vec![row(&mut batch, Op::Insert, None, Some(&["1", "a"]))];
    for _ in 0..2 {
        let error = chain
            .process(&mut batch, &mut rows, &mut Processed::default())
            .unwrap_err();
        assert!(text_of(&error).contains("unreachable"), "{error}");
    }
}

#[test]
fn a_failure_that_the_guest_tells_is_told() {
    let mut failing = transform(wishes(&[1], &[1], None), arr(&[i(1), s("try again")]));
    assert_eq!(fault(&failing).kind, FaultKind::Retryable);
    failing.batch = arr(&[i(2), s("lost")]);
    let fault = fault(&failing);
    assert_eq!((fault.kind, fault.message.as_str()), (FaultKind::Fatal, "lost"));
}

#[test]
fn a_row_beyond_the_memory_is_its_own_error() {
    let mut chain = transform(wishes(&[1], &[1], None), actions(&[])).chain().unwrap();
    let mut batch = batch(&people());
    let huge = "x".repeat(5 << 20);
    let mut rows = vec![row(&mut batch, Op::Insert, None, Some(&["1", &huge]))];
    let text = text_of(
        &chain
            .process(&mut batch, &mut rows, &mut Processed::default())
            .unwrap_err(),
    );
    assert!(text.contains("don't fit"), "{text}");
    // The plugin itself is well.
    let mut rows = vec![row(&mut batch, Op::Insert, None, Some(&["1", "a"]))];
    chain.process(&mut batch, &mut rows, &mut Processed::default()).unwrap();
}

#[test]
fn imports_answer() {
    let imports = r#"(import "rowmill" "now_us" (func $now (param i32) (result i64)))
        (import "rowmill" "random" (func $random (param i32 i32 i32)))
        (import "rowmill" "metric" (func $metric (param i32 i32 i32 f64)))
        (import "rowmill" "log" (func $log (param i32 i32 i32)))"#;
    let body = "(if (i64.ne (call $now (i32.const 0)) (i64.const -5)) (then (unreachable)))
        (call $random (i32.const 0) (i32.const 0) (i32.const 8))
        (call $random (i32.const 0) (i32.const 8) (i32.const 8))
        (if (i64.ne (i64.load (i32.const 0)) (i64.load (i32.const 8))) (then (unreachable)))
        (call $random (i32.const 1) (i32.const 8) (i32.const 8))
        (if (i64.eq (i64.load (i32.const 0)) (i64.load (i32.const 8))) (then (unreachable)))
        (i32.store8 (i32.const 0) (i32.const 109))
        (call $metric (i32.const 0) (i32.const 0) (i32.const 1) (f64.const 2))
        (call $log (i32.const 3) (i32.const 0) (i32.const 1))
        (call $log (i32.const 3) (i32.const -1) (i32.const -1)) (unreachable)";
    let guest = Guest { imports, ..guest(body) };
    let text = fault(&guest).message;
    assert!(text.contains("outside"), "{text}");
}

/// Each call takes a megabyte more, and breaks once there is none: the row that comes then has done nothing.
#[test]
fn a_guest_that_leaks_breaks_on_no_row() {
    let body = "(if (i32.lt_s (memory.grow (i32.const 16)) (i32.const 0)) (then (unreachable)))
        (i64.const 0x0000400000000004)";
    let guest = Guest {
        body: Some(body),
        batch: actions(&[]),
        ..guest("")
    };
    let mut chain = guest.chain().unwrap();
    let mut processed = Processed::default();
    for _ in 0..20 {
        let mut batch = batch(&people());
        let mut rows = vec![row(&mut batch, Op::Insert, None, Some(&["1", "a"]))];
        chain.process(&mut batch, &mut rows, &mut processed).unwrap();
        assert_eq!(shown(&batch, &rows), ["insert 1 a"]);
    }
    assert_eq!((processed.counts.faults, processed.aside.len()), (0, 0));
    assert!(processed.counts.instances_made > 1, "{:?}", processed.counts);
}

/// Each lane has a chain of its own, and meets some of the rows.
#[test]
fn faults_of_all_lanes_count_together() {
    let guest = Guest {
        policies: Policies {
            on_fault: OnFault::Isolate,
            max_faults: 3,
            ..STOP
        },
        ..guest("(unreachable)")
    };
    let mut lanes: Vec<Chain> = (0..4).map(|_| guest.chain().unwrap()).collect();
    Chain::count_faults_together(&mut lanes);
    for (at, lane) in lanes.iter_mut().enumerate() {
        let mut batch = batch(&people());
        let mut rows = vec![row(&mut batch, Op::Insert, None, Some(&["1", "a"]))];
        let done = lane.process(&mut batch, &mut rows, &mut Processed::default());
        match at {
            0..3 => done.unwrap(),
            _ => assert!(matches!(done, Err(PluginError::GaveUp(_))), "{done:?}"),
        }
    }
}
