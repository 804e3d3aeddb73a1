//! What breaks, or misbehaves within its rights, at a row.

use super::*;
use crate::plugin::GuestMetrics;

macro_rules! at_a_row {
    ($($name:ident: $kind:ident, $told:literal;)*) => {$(
        #[test]
        fn $name() {
            breaks_at_a_row(&module(stringify!($name)), FaultKind::$kind, $told);
        }
    )*};
}

at_a_row! {
    loop_in_batch: Timeout, "rowmill_batch was stopped";
    tail_calls_for_ever: Timeout, "rowmill_batch was stopped";
    memory_bomb_in_batch: Memory, "`unreachable` instruction executed in rowmill_batch";
    table_bomb: Memory, "`unreachable` instruction executed in rowmill_batch";
    stack_overflow: Trap, "call stack exhausted in rowmill_batch";
    reaches_unreachable: Trap, "`unreachable` instruction executed in rowmill_batch";
    divides_by_zero: Trap, "integer divide by zero in rowmill_batch";
    overflows_a_division: Trap, "integer overflow in rowmill_batch";
    reads_out_of_bounds: Trap, "out of bounds memory access in rowmill_batch";
    writes_out_of_bounds: Trap, "out of bounds memory access in rowmill_batch";
    calls_nothing: Trap, "uninitialized element in rowmill_batch";
    calls_another_type: Trap, "indirect call type mismatch in rowmill_batch";
    converts_nan: Trap, "invalid conversion to integer in rowmill_batch";
    exits: Trap, "proc_exit(7) in rowmill_batch";
    reply_beyond_memory: BadReply, "outside of its memory";
    reply_of_4_gib: Output, "larger than the limit";
    reply_too_large: Output, "larger than the limit";
    reply_is_nothing: BadReply, "answered nothing";
    reply_of_no_bytes: BadReply, "ends too early";
    log_beyond_memory: Trap, "outside of the guest's memory";
    panic_beyond_memory: Trap, "outside of the guest's memory";
    metric_beyond_memory: Trap, "outside of the guest's memory";
    random_beyond_memory: Trap, "outside of the guest's memory";
    random_of_no_row: Trap, "no such row";
    random_bomb: Trap, "more than 65536 random bytes";
    time_of_no_transaction: Trap, "no such transaction";
    wasi_write_beyond_memory: Trap, "outside of the guest's memory";
    wasi_random_beyond_memory: Trap, "outside of the guest's memory";
    wasi_clock_beyond_memory: Trap, "outside of the guest's memory";
}

#[test]
fn p5_panics_with_a_novel() {
    let fault = breaks_at_a_row(&module("panics_with_a_novel"), FaultKind::Trap, "panic: \\u{1b}");
    assert!(fault.panic.unwrap().ends_with("..."));
}

#[test]
fn lies_about_its_row() {
    let fault = breaks_at_a_row(&module("lies_about_its_row"), FaultKind::Trap, "`unreachable`");
    assert_eq!(fault.row, None);
}

macro_rules! whole {
    ($($name:ident: $kind:ident, $told:literal;)*) => {$(
        #[test]
        fn $name() {
            let bytes = wat::parse_str(read(concat!(stringify!($name), ".wat"))).unwrap();
            breaks_at_a_row(&bytes, FaultKind::$kind, $told);
        }
    )*};
}

whole! {
    endless_loop: Timeout, "rowmill_batch was stopped";
    memory_bomb: Memory, "`unreachable` instruction executed in rowmill_batch";
    panics: Trap, "panic: panicked at hostile.rs:1:1: on purpose";
    bad_reply: BadReply, "outside of its memory";
}

macro_rules! behaved {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            behaves(&module(stringify!($name)));
        }
    )*};
}

behaved! {
    leaks_memory
    reply_inside_the_input
    opens_files
    stdout_flood
}

#[test]
fn metric_names() {
    let mut chain = behaves(&module("metric_names"));
    let metrics = GuestMetrics::default();
    chain.take_metrics(&metrics);
    assert_eq!(metrics.take().len(), 100);
    // The names stay taken.
    behaves_on(&mut chain);
    chain.take_metrics(&metrics);
    assert!(metrics.take().len() <= 100);
}

#[test]
fn metric_flood() {
    // An unoptimised host takes its time to count so many.
    let mut version = version(&module("metric_flood")).unwrap();
    version.limits.time = Duration(std::time::Duration::from_secs(5));
    let mut chain = Chain::new(&ENGINE, &[version], FilterMode::Membership, Mode::Live).unwrap();
    for _ in 0..2 {
        behaves_on(&mut chain);
    }
    let metrics = GuestMetrics::default();
    chain.take_metrics(&metrics);
    let counted = metrics.take();
    assert_eq!(counted.len(), 1, "{counted:?}");
    assert_eq!((counted[0].1.count, counted[0].1.value), (40_000, 40_000.0));
    chain.take_metrics(&metrics);
    assert_eq!(metrics.take(), []);
}

fn behaves_on(chain: &mut Chain) {
    let (processed, left) = sent_through(chain);
    processed.unwrap();
    assert_eq!(left, ALL_ROWS);
}

/// A new instance has no budget of its own: breaking again and again floods nothing either.
#[test]
fn p25_log_flood() {
    let (lines, longest) = counted(|| {
        let bytes = module("log_flood");
        let version = version(&bytes).unwrap();
        for _ in 0..3 {
            let versions = [version.clone()];
            let mut chain = Chain::new(&ENGINE, &versions, FilterMode::Membership, Mode::Live).unwrap();
            behaves_on(&mut chain);
        }
    });
    // Twenty a second, and one that tells what was dropped.
    let seconds = TOLD_WITHIN.as_secs() as usize * 3;
    assert!((20..=21 * seconds).contains(&lines), "{lines} lines");
    assert!(longest <= 4 * 1024 * 6 + 3, "a line of {longest} bytes");
}

/// How many lines are logged meanwhile, and how long the longest is.
fn counted(work: impl FnOnce()) -> (usize, usize) {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use tracing::field::{Field, Visit};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    static LINES: AtomicUsize = AtomicUsize::new(0);
    static LONGEST: AtomicUsize = AtomicUsize::new(0);
    struct Count;
    impl Visit for Count {
        fn record_debug(&mut self, _: &Field, value: &dyn std::fmt::Debug) {
            LONGEST.fetch_max(format!("{value:?}").len(), Relaxed);
        }
    }
    impl<S: tracing::Subscriber> Layer<S> for Count {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            LINES.fetch_add(1, Relaxed);
            event.record(&mut Count);
        }
    }
    tracing::subscriber::with_default(tracing_subscriber::registry().with(Count), work);
    (LINES.load(Relaxed), LONGEST.load(Relaxed))
}
