//! A transform in WebAssembly text, one module per version: it writes its version into a column.

use crate::guest_text::GUEST;
use anyhow::Result;

/// The ABI that breaking versions are built for.
const ABI: i32 = 0x1_0000;

/// What version `number` writes; texts sort as numbers do.
pub fn tag(number: u64) -> String {
    format!("v{number:05}")
}

/// A module that writes `tag(number)` into the column `column` of every row, built for the ABI `abi`.
pub fn tagger(number: u64, column: u8, abi: i32) -> Result<Vec<u8>> {
    assemble(TEMPLATE, number, column, abi)
}

/// As [`tagger`], but it breaks, as a plugin that panics does, on a batch of `too_many` rows or more.
pub fn trapping_tagger(number: u64, column: u8, too_many: u32) -> Result<Vec<u8>> {
    assemble(&trapping(&at_least("rows", too_many), INIT), number, column, ABI)
}

/// As [`tagger`], but it reads the column too, and breaks on a batch of `too_long` bytes or more: on a row with a long
/// value, whatever comes with it.
pub fn wide_trapping_tagger(number: u64, column: u8, too_long: u32) -> Result<Vec<u8>> {
    let text = trapping(&at_least("len", too_long), INIT)
        .replacen(
            r"\96\00\00\90\91\COLUMN\00\c0",
            r"\96\00\00\91\COLUMN\91\COLUMN\00\c0",
            1,
        )
        .replacen("0x2000000008", "0x2000000009", 1);
    assemble(&text, number, column, ABI)
}

/// As [`trapping_tagger`], but it does so only where its output is delivered: no rehearsal shows it.
pub fn live_trapping_tagger(number: u64, column: u8, too_many: u32) -> Result<Vec<u8>> {
    // `[abi, [], name, nil, mode, ...]`
    let init = "(func (export \"rowmill_init\") (param $ptr i32) (param i32) (result i64)
    (global.set $at (local.get $ptr))
    (drop (call $array))
    (drop (call $integer))
    (drop (call $array))
    (global.set $at (i32.add (i32.and (call $byte) (i32.const 31)) (global.get $at)))
    (drop (call $byte))
    (global.set $mode (call $byte))
    (i64.const 0x1000000002))";
    let live = format!("(i32.and {} (i32.eqz (global.get $mode)))", at_least("rows", too_many));
    assemble(&trapping(&live, init), number, column, ABI)
}

/// A tagger of a megabyte, nearly all of it functions that do something.
pub fn large_tagger(number: u64, column: u8) -> Result<Vec<u8>> {
    let step = "(local.set 0 (i32.add (i32.mul (local.get 0) (local.get 1)) (i32.load8_u (local.get 1))))";
    let mut functions = String::new();
    for at in 0..2_000 {
        let steps = step.repeat(40);
        functions.push_str(&format!(
            "(func (param i32 i32) (result i32) {steps} (i32.const {at}))\n"
        ));
    }
    let end = TEMPLATE.rfind(')').unwrap_or_default();
    let (text, last) = TEMPLATE.split_at(end);
    assemble(&format!("{text}{functions}{last}"), number, column, ABI)
}

/// A tagger that never comes back from its start.
pub fn looping_tagger(number: u64, column: u8) -> Result<Vec<u8>> {
    let looping =
        "(func (export \"rowmill_init\") (param i32 i32) (result i64) (loop $again (br $again)) (unreachable))";
    assemble(&TEMPLATE.replacen(INIT, looping, 1), number, column, ABI)
}

fn at_least(local: &str, limit: u32) -> String {
    format!("(i32.ge_u (local.get ${local}) (i32.const {limit}))")
}

/// The text of a tagger that breaks where `condition` holds.
fn trapping(condition: &str, init: &str) -> String {
    let import = "(module\n  (import \"rowmill\" \"panic\" (func $panic (param i32 i32)))";
    let text = "an order without tax id, src/lib.rs:42:9";
    let mode = "(global $mode (mut i32) (i32.const 0))";
    let data = format!("  {mode} (data (i32.const 128) \"{text}\")\n  (func (export \"rowmill_abi\")");
    let trap = format!(
        "    (if {condition}
      (then (call $panic (i32.const 128) (i32.const {})) (unreachable)))
    ;; [0, 0, [[row",
        text.len()
    );
    TEMPLATE
        .replacen("(module", import, 1)
        .replacen("  (func (export \"rowmill_abi\")", &data, 1)
        .replacen("    ;; [0, 0, [[row", &trap, 1)
        .replacen(INIT, init, 1)
}

fn assemble(text: &str, number: u64, column: u8, abi: i32) -> Result<Vec<u8>> {
    let text = text
        .replace("TAG", &tag(number))
        .replace("COLUMN", &format!("{column:02x}"))
        .replace("GUEST", GUEST)
        .replace("ABI", &abi.to_string());
    Ok(wat::parse_str(text)?)
}

/// How the template starts an instance.
const INIT: &str = r#"(func (export "rowmill_init") (param i32 i32) (result i64) (i64.const 0x1000000002))"#;

/// No value is read, so that a row needn't be walked through.
const TEMPLATE: &str = r#"(module
  GUEST
  ;; [0]
  (data (i32.const 16) "\91\00")
  ;; [0, 0, [], [COLUMN], 0, nil]: no column is read, one is written
  (data (i32.const 32) "\96\00\00\90\91\COLUMN\00\c0")
  ;; what follows the row's number in an action: 2, [COLUMN, TAG]
  (data (i32.const 64) "\02\92\COLUMN\a6TAG")
  (func (export "rowmill_abi") (result i32) (i32.const ABI))
  (func (export "rowmill_init") (param i32 i32) (result i64) (i64.const 0x1000000002))
  (func (export "rowmill_schema") (param i32 i32) (result i64) (i64.const 0x2000000008))
  (func (export "rowmill_batch") (param $ptr i32) (param $len i32) (result i64)
    (local $rows i32) (local $row i32)
    (local.set $rows (call $rows (local.get $ptr)))
    ;; [0, 0, [[row, 2, [COLUMN, TAG]] ...]]
    (global.set $out (i32.const 65536))
    (call $put (i32.const 0x93))
    (call $put (i32.const 0))
    (call $put (i32.const 0))
    (call $put (i32.const 0xdd))
    (call $put_u32 (local.get $rows))
    (block $rows_end
      (loop $next
        (br_if $rows_end (i32.ge_u (local.get $row) (local.get $rows)))
        (call $put (i32.const 0x93))
        (call $put (i32.const 0xce))
        (call $put_u32 (local.get $row))
        (memory.copy (global.get $out) (i32.const 64) (i32.const 10))
        (global.set $out (i32.add (global.get $out) (i32.const 10)))
        (local.set $row (i32.add (local.get $row) (i32.const 1)))
        (br $next)))
    (i64.or (i64.const 0x1000000000000) (i64.extend_i32_u (i32.sub (global.get $out) (i32.const 65536))))))
"#;
