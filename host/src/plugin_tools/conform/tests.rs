//! The suite finds what is wrong, and passes what is right.

use super::*;
use crate::plugin::Engine;
use crate::plugin_tools::DEFAULT_LIMITS;
use rowmill_tests::{Columns, Keeps, totals};
use std::sync::LazyLock;

static ENGINE: LazyLock<Arc<Engine>> = LazyLock::new(|| Engine::new(None).unwrap());

/// A transform that reads nothing and lets everything pass, but for what `batch` does first.
fn guest(schema: &str, batch: &str) -> Subject {
    guest_with(schema, batch, "")
}

/// The same, with more fields in its module.
fn guest_with(schema: &str, batch: &str, more: &str) -> Subject {
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
                (i64.const 0x4000000004))
            {more})"#
    );
    subject(&wat::parse_str(module).unwrap())
}

fn subject(module: &[u8]) -> Subject {
    Subject::new(&ENGINE, "guest", module, serde_json::Value::Null, DEFAULT_LIMITS).unwrap()
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
fn p13_one_that_counts_calls_depends_on_cuts() {
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

/// The cases with what became of those that didn't pass.
fn unpassed(cases: Vec<Case>) -> Vec<(String, Verdict)> {
    let unpassed = cases.into_iter().filter(|case| case.verdict != Verdict::Pass);
    unpassed.map(|case| (case.name, case.verdict)).collect()
}

fn has_failed(cases: Vec<Case>, name: &str, why: &str) -> bool {
    let is_it = |(of, verdict): &(String, Verdict)| {
        of == name && matches!(verdict, Verdict::Fail(reason) if reason.contains(why))
    };
    unpassed(cases).iter().any(is_it)
}

/// Four columns of `bigint`, as the running totals want them.
fn amounts() -> Vec<(String, Batch)> {
    let columns: Vec<String> = ["id", "customer", "amount", "total"]
        .iter()
        .map(|name| format!(r#"{{"name":"{name}","type":"bigint","key":{}}}"#, *name == "id"))
        .collect();
    let mut text = format!(r#"{{"table":"orders","columns":[{}]}}"#, columns.join(","));
    for id in 0..20 {
        let (customer, amount) = (id % 3, 100 + id);
        text.push_str(&format!(
            "\n{{\"op\":\"insert\",\"new\":{{\"id\":{id},\"customer\":{customer},\"amount\":{amount}}}}}"
        ));
    }
    vec![("amounts".to_owned(), crate::plugin_tools::samples::read(&text).unwrap())]
}

fn running_totals(keeps: Keeps, version: u8) -> Subject {
    let columns = Columns {
        customer: 1,
        amount: 2,
        total: 3,
    };
    subject(&totals(keeps, columns, version).unwrap())
}

#[test]
fn running_totals_go_on_exactly() {
    let amounts = amounts();
    let before = running_totals(Keeps::State, 1);
    let cases = kept::cases(&running_totals(Keeps::State, 2), &amounts, Some(&before));
    assert_eq!(cases.len(), 4);
    let not_asked = |what: &str| Verdict::NotApplicable(what.to_owned());
    let no_entries = not_asked("its manifest doesn't ask for kv");
    assert_eq!(unpassed(cases), [("kv".to_owned(), no_entries.clone())]);
    // The first version has none before it.
    let cases = unpassed(kept::cases(&before, &amounts, None));
    let first = not_asked("its state_version is 1");
    assert_eq!(
        cases,
        [
            ("state: of an older version".to_owned(), first),
            ("kv".to_owned(), no_entries)
        ]
    );
}

#[test]
fn one_that_traps_where_it_may_not_write_entries_fails() {
    for keeps in [Keeps::Entries, Keeps::Both] {
        let cases = kept::cases(&running_totals(keeps, 1), &amounts(), None);
        let failed = unpassed(cases);
        let failed: Vec<_> = failed
            .iter()
            .filter(|(_, verdict)| matches!(verdict, Verdict::Fail(_)))
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(failed, ["kv: amounts: a quota that allows nothing"]);
    }
}

/// The same rows, by id, which is the key, or by customer, which isn't.
#[test]
fn a_plugin_that_keeps_what_is_not_of_the_key_is_found() {
    let mut text = r#"{"table":"orders","columns":[{"name":"id","type":"bigint","key":true},
        {"name":"customer","type":"bigint"},{"name":"amount","type":"bigint"},{"name":"total","type":"bigint"}]}"#
        .replace('\n', "");
    for at in 0..40 {
        let (id, customer, amount) = (at % 10, at % 3, 100 + at);
        text.push_str(&format!(
            "\n{{\"op\":\"insert\",\"new\":{{\"id\":{id},\"customer\":{customer},\"amount\":{amount}}}}}"
        ));
    }
    let usable = vec![("orders".to_owned(), crate::plugin_tools::samples::read(&text).unwrap())];
    let name = "state_scope: key: orders: divided, it gives the same";
    for (customer, is_key) in [(0, true), (1, false)] {
        let columns = Columns {
            customer,
            amount: 2,
            total: 3,
        };
        let cases = kept::cases(&subject(&totals(Keeps::Each, columns, 1).unwrap()), &usable, None);
        assert!(cases.iter().any(|case| case.name == name));
        assert_eq!(has_failed(cases, name, "divided by key"), !is_key);
    }
}

/// A plugin with state that drops all rows from its second call on.
fn forgetful(checkpoint: &str, batch: &str) -> Subject {
    let drops = format!(
        r#"(if (i32.gt_s (global.get $calls) (i32.const 1)) (then (i32.store8 (i32.const 66) (i32.const 1)))) {batch}"#
    );
    let more = format!(
        r#"(data (i32.const 128) "\92\00\c4\00")
        (func (export "rowmill_checkpoint") (result i64) {checkpoint} (i64.const 0x8000000004))
        (@custom "rowmill.plugin" "\82\adstate_version\01\abstate_scope\a5whole")"#
    );
    guest_with(READS_NOTHING, &drops, &more)
}

#[test]
fn p14_state_that_is_not_all_of_it_is_found() {
    let usable = amounts();
    let name = "kept: amounts: a new instance goes on exactly";
    let forgets = kept::cases(&forgetful("", ""), &usable, None);
    assert!(has_failed(forgets, name, "new instance"));
    let asked = "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))";
    let minds = kept::cases(&forgetful(asked, ""), &usable, None);
    assert!(has_failed(minds, name, "asked"));
}

#[test]
fn truncates_and_messages_are_sent_to_those_that_ask() {
    let usable = amounts();
    let none = unpassed(rowless::cases(&guest(READS_NOTHING, ""), &usable));
    assert_eq!(none.len(), 2);
    assert!(
        none.iter()
            .all(|(_, verdict)| matches!(verdict, Verdict::NotApplicable(_)))
    );

    let asks = r#"(@custom "rowmill.plugin" "\81\a8features\92\a9truncates\a8messages")"#;
    let takes = rowless::cases(&guest_with(READS_NOTHING, "", asks), &usable);
    assert_eq!(takes.len(), 9);
    assert_eq!(unpassed(takes), []);
    // It reads no columns, so only a message makes a batch this long.
    let traps = "(if (i32.gt_u (local.get 1) (i32.const 1000000)) (then unreachable))";
    let cases = rowless::cases(&guest_with(READS_NOTHING, traps, asks), &usable);
    assert!(has_failed(cases, "messages: alone: taken", "unreachable"));
}
