//! What breaks before the first row.

use super::*;

macro_rules! at_start {
    ($($name:ident: $kind:ident, $told:literal;)*) => {$(
        #[test]
        fn $name() {
            breaks_at_start(&module(stringify!($name)), FaultKind::$kind, $told);
        }
    )*};
}

at_start! {
    traps_in_start: Trap, "`unreachable` instruction executed in the module's start";
    exits_in_initialize: Trap, "proc_exit(0) in _initialize";
    memory_bomb_in_init: Memory, "in rowmill_init";
    memory_above_the_limit: Memory, "memory";
    giant_table: Memory, "table";
    data_beyond_memory: Trap, "out of bounds memory access in the module's start";
    alloc_beyond_memory: BadReply, "outside of its memory";
    alloc_negative: BadReply, "outside of its memory";
    alloc_misaligned: BadReply, "not aligned to 8";
    init_answers_nothing: BadReply, "answered nothing";
}

#[test]
fn alloc_gives_nothing() {
    let error = chain(&module("alloc_gives_nothing")).unwrap_err();
    assert!(text_of(&error).contains("E0306"), "{}", text_of(&error));
    assert!(text_of(&error).contains("doesn't fit into its memory"));
    others_go_on();
}

/// Nothing calls them, as state is refused by this version.
#[test]
fn loop_in_checkpoint() {
    behaves(&module("loop_in_checkpoint"));
}

#[test]
fn loop_in_migrate() {
    behaves(&module("loop_in_migrate"));
}

fn breaks_at_schema(bytes: &[u8], kind: FaultKind, told: &str) {
    let mut chain = chain(bytes).unwrap();
    let started = Instant::now();
    let error = chain.relation(&people()).unwrap_err();
    assert!(started.elapsed() < TOLD_WITHIN);
    let PluginError::Fault(fault) = error else {
        panic!("{error:?}");
    };
    is_told(&fault, kind, told);
    others_go_on();
}

#[test]
fn loop_in_schema() {
    breaks_at_schema(
        &module("loop_in_schema"),
        FaultKind::Timeout,
        "rowmill_schema was stopped",
    );
}

#[test]
fn traps_in_schema() {
    breaks_at_schema(
        &module("traps_in_schema"),
        FaultKind::Trap,
        "executed in rowmill_schema",
    );
}

/// The buffer of the first batch is too small for the second, so it is given back.
#[test]
fn loop_in_free() {
    let mut chain = chain(&module("loop_in_free")).unwrap();
    let mut batch = batch(&people());
    let large = "x".repeat(100 * 1024);
    let mut rows = vec![row(&mut batch, Op::Insert, None, Some(&["1", &large]))];
    let started = Instant::now();
    let error = chain
        .process(&mut batch, &mut rows, &mut Processed::default())
        .unwrap_err();
    assert!(started.elapsed() < TOLD_WITHIN);
    let PluginError::Fault(fault) = error else {
        panic!("{error:?}");
    };
    is_told(&fault, FaultKind::Timeout, "rowmill_free was stopped");
    others_go_on();
}

#[test]
fn p16_a_start_that_loops_is_stopped() {
    for (name, told) in [
        ("loop_in_start", "the module's start was stopped"),
        ("loop_in_initialize", "_initialize was stopped"),
        ("loop_in_abi", "rowmill_abi was stopped"),
        ("loop_in_alloc", "rowmill_alloc was stopped"),
        ("loop_in_init", "rowmill_init was stopped"),
    ] {
        breaks_at_start(&module(name), FaultKind::Timeout, told);
    }
}
