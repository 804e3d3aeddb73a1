//! A transform in WebAssembly text, one module per version: it writes its version into a column.

use anyhow::Result;

/// What version `number` writes; texts sort as numbers do.
pub fn tag(number: u64) -> String {
    format!("v{number:05}")
}

/// A module that writes `tag(number)` into the column `column` of every row, built for the ABI `abi`.
pub fn tagger(number: u64, column: u8, abi: i32) -> Result<Vec<u8>> {
    let text = TEMPLATE
        .replace("TAG", &tag(number))
        .replace("COLUMN", &format!("{column:02x}"))
        .replace("ABI", &abi.to_string());
    Ok(wat::parse_str(text)?)
}

/// As [`tagger`], but it breaks, as a plugin that panics does, on a batch of `too_many` rows or more.
pub fn trapping_tagger(number: u64, column: u8, too_many: u32) -> Result<Vec<u8>> {
    trapping(number, column, too_many, "")
}

/// As [`trapping_tagger`], but it does so only where its output is delivered: no rehearsal shows it.
pub fn live_trapping_tagger(number: u64, column: u8, too_many: u32) -> Result<Vec<u8>> {
    // `[abi, [], name, nil, mode, ...]`
    let init = "(func (export \"rowmill_init\") (param $ptr i32) (param i32) (result i64)
    (global.set $at (local.get $ptr))
    (drop (call $array))
    (call $integer)
    (drop (call $array))
    (global.set $at (i32.add (i32.and (call $byte) (i32.const 31)) (global.get $at)))
    (drop (call $byte))
    (global.set $mode (call $byte))
    (i64.const 0x1000000002))";
    trapping(number, column, too_many, init)
}

fn trapping(number: u64, column: u8, too_many: u32, init: &str) -> Result<Vec<u8>> {
    let import = "(module\n  (import \"rowmill\" \"panic\" (func $panic (param i32 i32)))";
    let text = "an order without tax id, src/lib.rs:42:9";
    let mode = "(global $mode (mut i32) (i32.const 0))";
    let data = format!("  {mode} (data (i32.const 128) \"{text}\")\n  (func (export \"rowmill_abi\")");
    let trap = format!(
        "    (if (i32.and (i32.ge_u (local.get $rows) (i32.const {too_many})) (i32.eqz (global.get $mode)))
      (then (call $panic (i32.const 128) (i32.const {})) (unreachable)))
    ;; [0, 0, [[row",
        text.len()
    );
    let text = TEMPLATE
        .replacen("(module", import, 1)
        .replacen("  (func (export \"rowmill_abi\")", &data, 1)
        .replacen("    ;; [0, 0, [[row", &trap, 1)
        .replacen(INIT, if init.is_empty() { INIT } else { init }, 1)
        .replace("TAG", &tag(number))
        .replace("COLUMN", &format!("{column:02x}"))
        .replace("ABI", &0x1_0000.to_string());
    Ok(wat::parse_str(text)?)
}

/// How the template starts an instance.
const INIT: &str = r#"(func (export "rowmill_init") (param i32 i32) (result i64) (i64.const 0x1000000002))"#;

/// Memory: replies to init and schema below 64 KiB, the reply to a batch from there to 4 MiB, then the input buffer.
/// A batch is `[sequence, flags, [[six integers] ...], rows]`: all before the rows are integers and array headers.
const TEMPLATE: &str = r#"(module
  (memory (export "memory") 80)
  (global $heap (mut i32) (i32.const 4194304))
  (global $at (mut i32) (i32.const 0))
  ;; [0]
  (data (i32.const 16) "\91\00")
  ;; [0, 0, [], [COLUMN], 0, nil]: no column is read, one is written
  (data (i32.const 32) "\96\00\00\90\91\COLUMN\00\c0")
  ;; what follows the row's number in an action: 2, [COLUMN, TAG]
  (data (i32.const 64) "\02\92\COLUMN\a6TAG")
  (func (export "rowmill_abi") (result i32) (i32.const ABI))
  (func (export "rowmill_alloc") (param $len i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $heap))
    (global.set $heap
      (i32.and (i32.add (i32.add (local.get $at) (local.get $len)) (i32.const 15)) (i32.const -8)))
    (if (i32.gt_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536)))
      (then
        (if (i32.eq (i32.const -1) (memory.grow (i32.add (i32.div_u (local.get $len) (i32.const 65536)) (i32.const 1))))
          (then (return (i32.const 0))))))
    (local.get $at))
  (func (export "rowmill_free") (param i32 i32))
  (func (export "rowmill_init") (param i32 i32) (result i64) (i64.const 0x1000000002))
  (func (export "rowmill_schema") (param i32 i32) (result i64) (i64.const 0x2000000008))
  (func $byte (result i32)
    (global.set $at (i32.add (global.get $at) (i32.const 1)))
    (i32.load8_u (i32.sub (global.get $at) (i32.const 1))))
  (func $big_endian (param $bytes i32) (result i32) (local $value i32)
    (loop $next
      (local.set $value (i32.or (i32.shl (local.get $value) (i32.const 8)) (call $byte)))
      (br_if $next (local.tee $bytes (i32.sub (local.get $bytes) (i32.const 1)))))
    (local.get $value))
  ;; The length of the array whose header comes next.
  (func $array (result i32) (local $head i32)
    (local.set $head (call $byte))
    (if (i32.eq (local.get $head) (i32.const 0xdc)) (then (return (call $big_endian (i32.const 2)))))
    (if (i32.eq (local.get $head) (i32.const 0xdd)) (then (return (call $big_endian (i32.const 4)))))
    (i32.and (local.get $head) (i32.const 15)))
  ;; Passes an integer over: those of one byte, cc to cf, and d0 to d3.
  (func $integer (local $head i32)
    (local.set $head (call $byte))
    (if (i32.and (i32.ge_u (local.get $head) (i32.const 0xcc)) (i32.le_u (local.get $head) (i32.const 0xd3)))
      (then (global.set $at (i32.add (global.get $at)
        (i32.shl (i32.const 1) (i32.and (local.get $head) (i32.const 3))))))))
  (func $put (param $byte i32)
    (i32.store8 (global.get $at) (local.get $byte))
    (global.set $at (i32.add (global.get $at) (i32.const 1))))
  (func $put_u32 (param $value i32)
    (call $put (i32.shr_u (local.get $value) (i32.const 24)))
    (call $put (i32.shr_u (local.get $value) (i32.const 16)))
    (call $put (i32.shr_u (local.get $value) (i32.const 8)))
    (call $put (local.get $value)))
  (func (export "rowmill_batch") (param $ptr i32) (param $len i32) (result i64)
    (local $left i32) (local $integers i32) (local $rows i32) (local $row i32)
    (global.set $at (local.get $ptr))
    (drop (call $array))
    (call $integer)
    (call $integer)
    (local.set $left (call $array))
    (block $transactions_end
      (loop $transaction
        (br_if $transactions_end (i32.eqz (local.get $left)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (local.set $integers (call $array))
        (loop $next
          (call $integer)
          (br_if $next (local.tee $integers (i32.sub (local.get $integers) (i32.const 1)))))
        (br $transaction)))
    (local.set $rows (call $array))
    ;; [0, 0, [[row, 2, [COLUMN, TAG]] ...]]
    (global.set $at (i32.const 65536))
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
        (memory.copy (global.get $at) (i32.const 64) (i32.const 10))
        (global.set $at (i32.add (global.get $at) (i32.const 10)))
        (local.set $row (i32.add (local.get $row) (i32.const 1)))
        (br $next)))
    (i64.or (i64.const 0x1000000000000) (i64.extend_i32_u (i32.sub (global.get $at) (i32.const 65536))))))
"#;
