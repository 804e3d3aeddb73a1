//! The suite finds what is wrong, and passes what is right.

use super::*;
use crate::plugin::Engine;
use crate::plugin_tools::DEFAULT_LIMITS;
use std::sync::LazyLock;

static ENGINE: LazyLock<Arc<Engine>> = LazyLock::new(|| Engine::new(None).unwrap());

/// A transform that reads nothing and lets everything pass, but for what `batch` does first.
fn guest(schema: &str, batch: &str) -> Subject {
    let module = format!(
        r#"(module
            (memory (export "memory") 64)
            (data (i32.const 16) "\91\00") (data (i32.const 32) "{schema}") (data (i32.const 64) "\93\00\00\90")
            (global $calls (mut i32) (i32.const 0))
            (global $next (mut i32) (i32.const 1024))
            (func (export "rowmill_abi") (result i32) (i32.const 0x10000))
            (func (export "rowmill_alloc") (param i32) (result i32)
                (global.get $next)
                (global.set $next (i32.add (global.get $next) (local.get 0))))
            (func (export "rowmill_free") (param i32 i32))
            (func (export "rowmill_init") (param i32 i32) (result i64) (i64.const 0x1000000002))
            (func (export "rowmill_schema") (param i32 i32) (result i64) (i64.const 0x2000000004))
            (func (export "rowmill_batch") (param i32 i32) (result i64)
                (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
                {batch}
                (i64.const 0x4000000004)))"#
    );
    let bytes = wat::parse_str(module).unwrap();
    Subject::new(&ENGINE, "guest", &bytes, serde_json::Value::Null, DEFAULT_LIMITS).unwrap()
}

/// `[0, 0, []]`: use me, reading nothing.
const READS_NOTHING: &str = "\\93\\00\\00\\90";

fn failures(subject: &Subject) -> Vec<String> {
    let one = rows::of(&tables::all()[4].1);
    [
        case(
            "table",
            table(subject, &one.relations[0]).unwrap_or_else(|error| failed(&error)),
        ),
        case("settled", settled(subject, &one)),
        case("deterministic", deterministic(subject, &one)),
        case("cuts", cut_independent(subject, &one)),
        case("steady", steady(subject, &one)),
        case("many", settled(subject, &rows::many(&one.relations[0]))),
        case("bad config", bad_config(subject)),
    ]
    .into_iter()
    .filter(|case| matches!(case.verdict, Verdict::Fail(_)))
    .map(|case| case.name)
    .collect()
}

#[test]
fn one_that_lets_everything_pass_conforms() {
    let subject = guest(READS_NOTHING, "");
    assert_eq!(failures(&subject), Vec::<String>::new());
}

#[test]
fn one_that_counts_calls_depends_on_cuts() {
    // From the third call on it drops every row.
    let drops = r#"(if (i32.gt_s (global.get $calls) (i32.const 2)) (then (i32.store8 (i32.const 66) (i32.const 1))))"#;
    assert_eq!(failures(&guest(READS_NOTHING, drops)), ["cuts"]);
}

#[test]
fn one_that_takes_memory_with_each_call_does_not_stay_steady() {
    let leaks = r#"(if (i32.eqz (i32.rem_u (global.get $calls) (i32.const 1000)))
        (then (drop (memory.grow (i32.const 1)))))"#;
    assert_eq!(failures(&guest(READS_NOTHING, leaks)), ["steady"]);
}

#[test]
fn one_that_traps_fails_wherever_it_is_called() {
    let failed = failures(&guest(READS_NOTHING, "unreachable"));
    assert_eq!(failed, ["settled", "deterministic", "cuts", "steady", "many"]);
}
