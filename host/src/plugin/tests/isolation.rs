//! A change that a plugin rejects or breaks on costs itself; the others go on, in order.

use super::*;
use crate::plugin::{Aside, AsideCause, FaultKind, GaveUpReason, RowErrorKind};
use proptest::prelude::*;

/// Walks over its rows, which are `[relation < 128, op, image, [text of one byte]]`, and does on each as its letter says:
/// `t` traps, `l` loops for ever, `m` takes memory until there is none, `a` answers nothing, `o` answers too much.
/// Where the hint is right, `$row` is set before.
fn breaking(hint: Hint, answer: usize) -> String {
    let set = |value: &str| match hint {
        Hint::Global => format!("(global.set $row {value})"),
        Hint::Address => format!("(i32.store (i32.const 64) {value})"),
        Hint::None => String::new(),
        Hint::Wrong(row) => format!("(global.set $row (i32.const {row}))"),
    };
    // The rows stand at the end, seven bytes each: 94 relation op image 91 a1 letter.
    format!(
        r#"(local $at i32) (local $end i32) (local $index i32) (local $letter i32)
        (local.set $end (i32.add (local.get $ptr) (local.get $len)))
        (local.set $at (local.get $ptr))
        (block $found (loop $seek
            (br_if $found (i32.and
                (i32.eq (i32.load8_u (local.get $at)) (i32.const 0x94))
                (i32.and
                    (i32.eq (i32.load8_u offset=4 (local.get $at)) (i32.const 0x91))
                    (i32.eq (i32.load8_u offset=5 (local.get $at)) (i32.const 0xa1)))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br $seek)))
        (loop $rows
            (if (i32.lt_u (local.get $at) (local.get $end)) (then
                {set}
                (local.set $letter (i32.load8_u offset=6 (local.get $at)))
                (if (i32.eq (local.get $letter) (i32.const {t})) (then (unreachable)))
                (if (i32.eq (local.get $letter) (i32.const {l})) (then (loop $for_ever (br $for_ever))))
                (if (i32.eq (local.get $letter) (i32.const {m})) (then
                    (loop $more (br_if $more (i32.ge_s (memory.grow (i32.const 1)) (i32.const 0)))) (unreachable)))
                (if (i32.eq (local.get $letter) (i32.const {a})) (then (return (i64.const 0))))
                (if (i32.eq (local.get $letter) (i32.const {o})) (then (return (i64.const 0x7fffffff))))
                (local.set $at (i32.add (local.get $at) (i32.const 7)))
                (local.set $index (i32.add (local.get $index) (i32.const 1)))
                (br $rows))))
        (i64.const {answer})"#,
        set = set("(local.get $index)"),
        t = i32::from(b't'),
        l = i32::from(b'l'),
        m = i32::from(b'm'),
        a = i32::from(b'a'),
        o = i32::from(b'o'),
        answer = BATCH_AT << 32 | answer,
    )
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Hint {
    Global,
    Address,
    None,
    Wrong(i32),
}

/// Relations of small index, so that a row's head has a fixed length: the guest is told of index 1 whatever it is.
fn letters_guest(hint: Hint, policies: Policies) -> Guest {
    letters_guest_saying(hint, policies, &[])
}

/// The same, with actions that it answers where nothing breaks it.
pub(super) fn letters_guest_saying(hint: Hint, policies: Policies, said: &[Vec<u8>]) -> Guest {
    let reply = actions(said);
    let body: &'static str = Box::leak(breaking(hint, reply.len()).into_boxed_str());
    let row = match hint {
        Hint::Address => r#"(global (export "rowmill_row") i32 (i32.const 64))"#,
        _ => r#"(global $row (export "rowmill_row") (mut i32) (i32.const 0))"#,
    };
    Guest {
        body: Some(body),
        row,
        policies,
        ..transform(wishes(&[1], &[1], None), reply)
    }
}

/// A table whose index takes one byte on the wire.
fn lettered() -> Arc<Relation> {
    let mut relation = Relation::clone(&people());
    relation.index = 100;
    Arc::new(relation)
}

/// One insert per letter, each a change of its own.
fn inserts(letters: &str) -> (Batch, Vec<Row>) {
    let mut batch = batch(&lettered());
    let rows = letters.chars().enumerate().map(|(at, letter)| {
        let made = row(&mut batch, Op::Insert, None, Some(&["1", &letter.to_string()]));
        Row {
            ordinal: at as u64,
            ..made
        }
    });
    let rows = rows.collect();
    (batch, rows)
}

fn ordinals(rows: &[Row]) -> Vec<u64> {
    rows.iter().map(|row| row.ordinal).collect()
}

fn aside(processed: &Processed) -> Vec<u64> {
    processed.aside.iter().map(|aside| aside.row.ordinal).collect()
}

fn kind(aside: &Aside) -> FaultKind {
    match &aside.cause {
        AsideCause::Fault(fault) => fault.kind,
        AsideCause::Row(kind) => panic!("{kind:?}"),
    }
}

fn run(guest: &Guest, letters: &str) -> (Result<(), PluginError>, Vec<u64>, Processed) {
    let mut chain = guest.chain().unwrap();
    let (mut batch, mut rows) = inserts(letters);
    let mut processed = Processed::default();
    let done = chain.process(&mut batch, &mut rows, &mut processed);
    (done, ordinals(&rows), processed)
}

const SET_ASIDE: Policies = Policies {
    on_error: OnError::DeadLetter,
    on_fault: OnFault::Isolate,
    max_faults: 100,
};

#[test]
fn each_kind_of_fault_costs_its_own_change() {
    for hint in [Hint::Global, Hint::Address, Hint::None, Hint::Wrong(0)] {
        for (letters, wanted) in [
            ("..t.....", FaultKind::Trap),
            ("..l.....", FaultKind::Timeout),
            ("..m.....", FaultKind::Memory),
            ("..a.....", FaultKind::BadReply),
            ("..o.....", FaultKind::Output),
        ] {
            let (done, rows, processed) = run(&letters_guest(hint, SET_ASIDE), letters);
            done.unwrap();
            assert_eq!(rows, [0, 1, 3, 4, 5, 6, 7], "{hint:?} {letters}");
            assert_eq!(aside(&processed), [2], "{hint:?} {letters}");
            assert_eq!(kind(&processed.aside[0]), wanted);
            assert_eq!(processed.counts.faults, 1, "{hint:?} {letters}");
        }
    }
}

#[test]
fn what_was_set_aside_says_all_of_its_cause() {
    let (_, _, processed) = run(&letters_guest(Hint::Global, SET_ASIDE), ".t");
    let aside = &processed.aside[0];
    assert_eq!(
        (aside.plugin.as_str(), aside.version.as_deref()),
        ("guest", Some("0.3.1"))
    );
    assert_eq!(aside.hash.len(), 64);
    let AsideCause::Fault(fault) = &aside.cause else {
        panic!("{aside:?}")
    };
    assert_eq!(fault.version.as_deref(), Some("0.3.1"));
    let place = fault.row.as_ref().unwrap();
    assert_eq!(
        (place.relation.as_str(), place.commit_lsn, place.ordinal),
        ("public.t", Lsn(0x10), 1)
    );
    assert!(fault.backtrace.as_ref().unwrap().contains("wasm"));
    assert!(aside.problem().to_string().contains("E0310"));
}

/// With a right hint, the row is tried alone and that is all: three further calls however many rows there are.
#[test]
fn a_named_row_is_found_at_once() {
    let letters = format!("{}l{}", ".".repeat(500), ".".repeat(500));
    for (hint, instances) in [(Hint::Global, 2..=2), (Hint::None, 9..=12)] {
        let (done, rows, processed) = run(&letters_guest(hint, SET_ASIDE), &letters);
        done.unwrap();
        assert_eq!((rows.len(), aside(&processed)), (1_000, vec![500]));
        assert!(
            instances.contains(&processed.counts.instances_made),
            "{hint:?} {:?}",
            processed.counts
        );
    }
}

#[test]
fn faults_go_by_or_stop_as_the_policy_says() {
    let with = |on_fault| letters_guest(Hint::Global, Policies { on_fault, ..SET_ASIDE });
    let (done, rows, processed) = run(&with(OnFault::Bypass), ".t.t");
    done.unwrap();
    assert_eq!(rows, [0, 1, 2, 3]);
    assert!(processed.aside.is_empty());
    assert_eq!((processed.counts.bypassed, processed.counts.faults), (2, 2));

    let (done, rows, processed) = run(&with(OnFault::Stop), ".t.t");
    let PluginError::Fault(fault) = done.unwrap_err() else {
        panic!()
    };
    assert_eq!(fault.row.unwrap().ordinal, 1);
    assert_eq!((rows.len(), processed.aside.len()), (4, 0));
    assert_eq!(processed.counts, Default::default());
}

#[test]
fn a_plugin_that_breaks_too_often_stops() {
    let policies = Policies {
        max_faults: 3,
        ..SET_ASIDE
    };
    let (done, ..) = run(&letters_guest(Hint::Global, policies), "t.t.t");
    done.unwrap();
    let (done, rows, processed) = run(&letters_guest(Hint::Global, policies), "t.t.tt.");
    let error = done.unwrap_err();
    assert!(text_of(&error).contains("E0313"), "{error}");
    assert!(matches!(&error, PluginError::GaveUp(gave_up)
        if matches!(gave_up.reason, GaveUpReason::TooManyFaults { faults: 4, .. })));
    assert_eq!((rows.len(), processed.aside.len()), (7, 0));
}

#[test]
fn the_search_has_a_budget() {
    let guest = letters_guest(Hint::None, SET_ASIDE);
    let mut version = guest.version("guest").unwrap();
    version.limits.isolation = Duration(std::time::Duration::from_millis(150));
    let mut chain = Chain::new(&ENGINE, &[version], FilterMode::Membership, Mode::Live).unwrap();
    let (mut batch, mut rows) = inserts("..l.....l.......");
    let error = chain
        .process(&mut batch, &mut rows, &mut Processed::default())
        .unwrap_err();
    let text = text_of(&error);
    assert!(
        text.contains("E0314") && text.contains("rows of a batch are still in doubt"),
        "{text}"
    );
    assert_eq!(rows.len(), 16);
}

/// Fails twice and then works, as its memory counts the calls.
#[test]
fn what_may_be_tried_again_is() {
    let body: &'static str = Box::leak(
        format!(
            "(i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (i32.const 1)))
            (if (i32.lt_s (i32.load (i32.const 8)) (i32.const 3)) (then (return (i64.const {}))))
            (i64.const {})",
            INIT_AT << 32 | 7,
            BATCH_AT << 32 | 4,
        )
        .into_boxed_str(),
    );
    // The answer to `rowmill_init` is short; behind it lies what fails.
    let failing = Guest {
        body: Some(body),
        imports: "",
        policies: SET_ASIDE,
        ..transform(wishes(&[1], &[1], None), actions(&[]))
    };
    let wat = failing.wat().replace(
        "(func (export \"rowmill_free\")",
        "(data (i32.const 1024) \"\\92\\01\\a4soon\") (func (export \"rowmill_free\")",
    );
    // `rowmill_init` answers elsewhere.
    let wat = wat.replace(
        &format!("(i64.const {})", INIT_AT << 32 | 2),
        &format!("(i64.const {})", BATCH_AT << 32 | 4),
    );
    let mut version = failing.version("guest").unwrap();
    version.module = ENGINE.load(&wat::parse_str(wat).unwrap(), &limits()).unwrap();
    let mut chain = Chain::new(&ENGINE, &[version], FilterMode::Membership, Mode::Live).unwrap();
    let (mut batch, mut rows) = inserts("..");
    let mut processed = Processed::default();
    chain.process(&mut batch, &mut rows, &mut processed).unwrap();
    assert_eq!(ordinals(&rows), [0, 1]);
    assert_eq!((processed.counts.retries, processed.counts.faults), (2, 0));

    let failing = Guest {
        policies: SET_ASIDE,
        ..transform(wishes(&[1], &[1], None), arr(&[i(1), s("later")]))
    };
    let (done, rows, processed) = run(&failing, "..");
    done.unwrap();
    assert!(rows.is_empty());
    assert_eq!(kind(&processed.aside[1]), FaultKind::Retryable);
}

/// Rows that together go beyond a bound, and alone don't.
#[test]
fn a_batch_beyond_a_bound_is_split() {
    // Takes the memory that its input is long, 16 times over, and never gives it back.
    let body = "(if (i32.gt_u (local.get $len) (i32.const 120000)) (then
            (loop $more (br_if $more (i32.ge_s (memory.grow (i32.const 1)) (i32.const 0)))) (unreachable)))
        (i64.const 0x0000400000000004)";
    let guest = Guest {
        body: Some(body),
        policies: SET_ASIDE,
        ..transform(wishes(&[1], &[1], None), actions(&[]))
    };
    let mut chain = guest.chain().unwrap();
    let mut batch = batch(&people());
    let text = "x".repeat(50_000);
    let mut rows: Vec<Row> = (0..4)
        .map(|at| Row {
            ordinal: at,
            ..row(&mut batch, Op::Insert, None, Some(&["1", &text]))
        })
        .collect();
    let mut processed = Processed::default();
    chain.process(&mut batch, &mut rows, &mut processed).unwrap();
    assert_eq!((ordinals(&rows), aside(&processed)), (vec![0, 1, 2, 3], vec![]));
    assert_eq!(processed.counts.faults, 0);
}

#[test]
fn a_row_beyond_the_memory_leaves_alone() {
    let guest = Guest {
        policies: SET_ASIDE,
        ..transform(wishes(&[1], &[1], None), actions(&[]))
    };
    let mut chain = guest.chain().unwrap();
    let mut batch = batch(&people());
    let huge = "x".repeat(5 << 20);
    let mut rows: Vec<Row> = ["a", &huge, "b"]
        .iter()
        .enumerate()
        .map(|(at, text)| Row {
            ordinal: at as u64,
            ..row(&mut batch, Op::Insert, None, Some(&["1", text]))
        })
        .collect();
    let mut processed = Processed::default();
    chain.process(&mut batch, &mut rows, &mut processed).unwrap();
    assert_eq!((ordinals(&rows), aside(&processed)), (vec![0, 2], vec![1]));
    assert!(matches!(
        processed.aside[0].cause,
        AsideCause::Row(RowErrorKind::TooLarge { .. })
    ));
    assert_eq!(processed.counts.faults, 0);
}

/// Without another call: the guest has said all.
#[test]
fn rejects_leave_as_the_policy_says() {
    let reject = |image| arr(&[i(image), i(6), i(42), s("too old")]);
    for (on_error, rows, aside_rows) in [
        (OnError::DeadLetter, vec![0, 2], vec![1, 3]),
        (OnError::Drop, vec![0, 2], vec![]),
        (OnError::Pass, vec![0, 1, 2, 3], vec![]),
    ] {
        for guest in [
            transform(
                wishes(&[1], &[1], None),
                actions(&[reject(1), patch(2, 1, s("m")), reject(3)]),
            ),
            filter(
                wishes(&[1], &[], None),
                arr(&[
                    i(0),
                    yes(true),
                    arr(&[arr(&[i(3), i(1), s("")]), arr(&[i(1), i(1), s("")])]),
                ]),
            ),
        ] {
            let policies = Policies { on_error, ..SET_ASIDE };
            let (done, left, processed) = run(&Guest { policies, ..guest }, "abcd");
            done.unwrap();
            assert_eq!((&left, &aside(&processed)), (&rows, &aside_rows), "{on_error:?}");
            assert_eq!(processed.counts.rejected, 2);
            assert_eq!(
                processed.counts.dropped_by_policy,
                if on_error == OnError::Drop { 2 } else { 0 }
            );
            assert_eq!(processed.counts.instances_made, 0);
        }
    }
}

#[test]
fn values_that_the_host_has_not_got_cost_their_change() {
    let guest = Guest {
        policies: SET_ASIDE,
        ..filter(wishes(&[1], &[], None), arr(&[i(0), yes(true), nil()]))
    };
    let mut chain = guest.chain().unwrap();
    let mut batch = batch(&people());
    let mut rows: Vec<Row> = ["a", "~", "b"]
        .iter()
        .enumerate()
        .map(|(at, text)| Row {
            ordinal: at as u64,
            ..row(&mut batch, Op::Update, None, Some(&["1", text]))
        })
        .collect();
    let mut processed = Processed::default();
    chain.process(&mut batch, &mut rows, &mut processed).unwrap();
    assert_eq!((ordinals(&rows), aside(&processed)), (vec![0, 2], vec![1]));
}

/// A later plugin rejects one row of a fan-out: nothing of the change goes on, and the row that was set aside is the one
/// that came in.
#[test]
fn a_change_leaves_whole() {
    let made = |text| arr(&[i(0), i(0), arr(&[i(1), s(text)]), nil()]);
    let fan = Guest {
        policies: SET_ASIDE,
        ..transform(
            wishes(&[1], &[1], None),
            actions(&[arr(&[i(1), i(4), arr(&[made("x"), made("y"), made("z")])])]),
        )
    };
    let picky = Guest {
        policies: SET_ASIDE,
        ..transform(wishes(&[1], &[1], None), actions(&[arr(&[i(2), i(6), i(1), s("y")])]))
    };
    let versions = [fan.version("fan").unwrap(), picky.version("picky").unwrap()];
    let mut chain = Chain::new(&ENGINE, &versions, FilterMode::Membership, Mode::Live).unwrap();
    let (mut batch, mut rows) = inserts("abc");
    let came = rows[1].new;
    let mut processed = Processed::default();
    chain.process(&mut batch, &mut rows, &mut processed).unwrap();
    assert_eq!((ordinals(&rows), aside(&processed)), (vec![0, 2], vec![1]));
    assert_eq!(processed.aside[0].plugin, "picky");
    assert_eq!(processed.aside[0].row.new, came);
    assert_eq!(rows[1].fan_out, 0);
}

/// The breaks of each stage leave, and `processed` is appended to.
#[test]
fn several_plugins_break_on_different_rows() {
    let first = letters_guest(Hint::Global, SET_ASIDE).version("first").unwrap();
    let reject = actions(&[arr(&[i(0), i(6), i(1), s("first")])]);
    let second = Guest {
        policies: SET_ASIDE,
        ..transform(wishes(&[1], &[1], None), reject)
    };
    let versions = [first, second.version("second").unwrap()];
    let mut chain = Chain::new(&ENGINE, &versions, FilterMode::Membership, Mode::Live).unwrap();
    let mut processed = Processed::default();
    for _ in 0..2 {
        let (mut batch, mut rows) = inserts("t.t.");
        chain.process(&mut batch, &mut rows, &mut processed).unwrap();
        assert_eq!(ordinals(&rows), [3]);
    }
    assert_eq!(aside(&processed), [0, 1, 2, 0, 1, 2]);
    let plugins: Vec<_> = processed.aside[..3].iter().map(|aside| aside.plugin.as_str()).collect();
    assert_eq!(plugins, ["first", "second", "first"]);
    let counts: Vec<_> = chain
        .counts()
        .map(|(name, counts)| (name.to_owned(), counts.faults, counts.rejected))
        .collect();
    assert_eq!(counts, [("first".to_owned(), 4, 0), ("second".to_owned(), 0, 2)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is poison and wherever batches are cut, whatever the guest says of the row that it works on.
    #[test]
    fn exactly_the_poison_leaves(
        letters in prop::collection::vec(prop::sample::select(vec!['.', '.', '.', '.', '.', 't', 'a', 'o']), 1..40),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        hint in prop_oneof![
            Just(Hint::Global), Just(Hint::Address), Just(Hint::None), (-2..45).prop_map(Hint::Wrong),
        ],
    ) {
        let policies = Policies { max_faults: 1_000, ..SET_ASIDE };
        let mut chain = letters_guest(hint, policies).chain().unwrap();
        let (mut batch, rows) = inserts(&letters.iter().collect::<String>());
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(letters.len())).collect();
        cuts.extend([0, letters.len()]);
        cuts.sort_unstable();
        let (mut left, mut processed) = (Vec::new(), Processed::default());
        for cut in cuts.windows(2) {
            let mut part = rows[cut[0]..cut[1]].to_vec();
            chain.process(&mut batch, &mut part, &mut processed).unwrap();
            left.extend(ordinals(&part));
        }
        let of = |poison: bool| -> Vec<u64> {
            let chosen = letters.iter().enumerate().filter(|(_, letter)| (**letter != '.') == poison);
            chosen.map(|(at, _)| at as u64).collect()
        };
        prop_assert_eq!(left, of(false));
        prop_assert_eq!(aside(&processed), of(true));
    }
}
