//! A transform in WebAssembly text that keeps running totals: of every inserted row it adds up an `int8` column and
//! writes the total so far into another. It traps on the amount [`POISON`], after it has added it: what it then has
//! must not be gone on with. It rejects the amount [`REFUSED`], after it has added that, too.

use crate::guest_text::GUEST;
use anyhow::Result;

/// The amount that it breaks on.
pub const POISON: i64 = 666;

/// The amount that it rejects.
pub const REFUSED: i64 = 888;

/// Where its totals are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Keeps {
    /// One total of all rows, in its state.
    State,
    /// A total for each customer, by key.
    Entries,
    /// Both; what it writes is their sum.
    Both,
    /// A total for each customer, of whom there are 16, in its state, which is divided by key. It adds up updates, too.
    Each,
    /// The same, but for the division.
    EachInOne,
}

/// Places of the columns among those of the table.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    pub customer: u8,
    pub amount: u8,
    pub total: u8,
}

/// The module. Its state of version 1 is the total, or the totals; that of version 2 has a byte behind it, and version 2
/// takes both.
pub fn totals(keeps: Keeps, columns: Columns, version: u8) -> Result<Vec<u8>> {
    totals_breaking(keeps, columns, version, POISON)
}

/// One that breaks on another amount.
pub fn totals_breaking(keeps: Keeps, columns: Columns, version: u8, poison: i64) -> Result<Vec<u8>> {
    let has_state = keeps != Keeps::Entries;
    let has_entries = matches!(keeps, Keeps::Entries | Keeps::Both);
    let of_each = matches!(keeps, Keeps::Each | Keeps::EachInOne);
    let old_bytes = if of_each { 128 } else { 8 };
    let state_bytes = if version == 1 { old_bytes } else { old_bytes + 1 };
    let text = |text: &str| format!("\\{:02x}{text}", 0xa0 + text.len());
    let manifest = [
        "\\84".to_owned(),
        text("kind"),
        text("transform"),
        text("state_version"),
        format!("\\{:02x}", if has_state { version } else { 0 }),
        text("state_scope"),
        text(match keeps {
            Keeps::Each => "key",
            Keeps::Entries => "none",
            _ => "whole",
        }),
        text("features"),
        if has_entries {
            format!("\\91{}", text("kv"))
        } else {
            "\\90".to_owned()
        },
    ];
    let imports = r#"(import "rowmill" "kv_get" (func $get (param i32 i32 i32 i32) (result i32)))
  (import "rowmill" "kv_put" (func $put_entry (param i32 i32 i32 i32) (result i32)))"#;
    // Without entries the totals by customer are zero and go nowhere.
    let none = "(func $get (param i32 i32 i32 i32) (result i32) (i32.const -1))
  (func $put_entry (param i32 i32 i32 i32) (result i32) (i32.const 0))";
    let (head, tail) = if has_entries { (imports, "") } else { ("", none) };
    let migrate = r#"(func (export "rowmill_migrate") (param $old i32) (param $ptr i32) (param $len i32) (result i64)
    (if (i32.or (i32.ne (local.get $old) (i32.const 1)) (i32.ne (local.get $len) (i32.const OLD_BYTES)))
      (then (return (i64.const 0x3000000006))))
    (memory.copy (i32.const 116) (local.get $ptr) (i32.const OLD_BYTES))
    (i64.const 0x1000000002))"#;
    let checkpoint = r#"(func (export "rowmill_checkpoint") (result i64)
    (i64.or (i64.const 0x7000000000) (i64.const REPLY_BYTES)))"#;
    let text = TEMPLATE
        .replace("HEAD", head)
        .replace("GUEST", GUEST)
        .replace("TAIL", tail)
        .replace("CHECKPOINT", if has_state { checkpoint } else { "" })
        .replace("MIGRATE", if has_state && version > 1 { migrate } else { "" })
        .replace("OLD_BYTES", &old_bytes.to_string())
        .replace("PLACES", if of_each { "15" } else { "0" })
        .replace("LAST_OP", if of_each { "1" } else { "0" })
        .replace("REPLY_BYTES", &(4 + state_bytes).to_string())
        .replace("STATE_BYTES", &state_bytes.to_string())
        .replace("STATE_HEX", &format!("{state_bytes:02x}"))
        .replace("CUSTOMER", &format!("{:02x}", columns.customer))
        .replace("AMOUNT", &format!("{:02x}", columns.amount))
        .replace("TOTAL_HEX", &format!("{:02x}", columns.total))
        .replace("TOTAL", &columns.total.to_string())
        .replace("USE_STATE", if has_state { "1" } else { "0" })
        .replace("USE_ENTRIES", if has_entries { "1" } else { "0" })
        .replace("POISON", &poison.to_string())
        .replace("REFUSED", &REFUSED.to_string())
        .replace("MANIFEST", &manifest.concat());
    Ok(wat::parse_str(text)?)
}

/// The state lies where the reply of a checkpoint has it: its totals from 116 on.
const TEMPLATE: &str = r#"(module
  HEAD
  GUEST
  (global $row (export "rowmill_row") (mut i32) (i32.const -1))
  ;; [0]
  (data (i32.const 16) "\91\00")
  ;; [0, 0, [CUSTOMER, AMOUNT], [TOTAL], 0, nil]
  (data (i32.const 32) "\96\00\00\92\CUSTOMER\AMOUNT\91\TOTAL_HEX\00\c0")
  ;; [2, "bad"]
  (data (i32.const 48) "\92\02\a3bad")
  ;; [0, bin]
  (data (i32.const 112) "\92\00\c4\STATE_HEX")
  TAIL
  CHECKPOINT
  MIGRATE
  (func (export "rowmill_abi") (result i32) (i32.const 65536))
  ;; The state and its version are the last two elements.
  (func (export "rowmill_init") (param $ptr i32) (param $len i32) (result i64) (local $end i32)
    (local.set $end (i32.sub (i32.add (local.get $ptr) (local.get $len)) (i32.const 1)))
    (if (i32.eqz (i32.load8_u (local.get $end))) (then (return (i64.const 0x1000000002))))
    (local.set $end (i32.sub (local.get $end) (i32.const STATE_BYTES)))
    (if (i32.ne (i32.load8_u (i32.sub (local.get $end) (i32.const 1))) (i32.const STATE_BYTES))
      (then (return (i64.const 0x3000000006))))
    (if (i32.ne (i32.load8_u (i32.sub (local.get $end) (i32.const 2))) (i32.const 0xc4))
      (then (return (i64.const 0x3000000006))))
    (memory.copy (i32.const 116) (local.get $end) (i32.const STATE_BYTES))
    (i64.const 0x1000000002))
  (func (export "rowmill_schema") (param i32 i32) (result i64) (i64.const 0x200000000a))
  ;; Adds to both totals and gives what is written of them.
  (func $add (param $customer i64) (param $amount i64) (result i64) (local $of_customer i64) (local $place i32)
    (local.set $place (i32.add (i32.const 116)
      (i32.mul (i32.const 8) (i32.and (i32.const PLACES) (i32.wrap_i64 (local.get $customer))))))
    (i64.store (local.get $place) (i64.add (i64.load (local.get $place)) (local.get $amount)))
    (i64.store (i32.const 400) (local.get $customer))
    (i64.store (i32.const 408) (i64.const 0))
    (drop (call $get (i32.const 400) (i32.const 8) (i32.const 408) (i32.const 8)))
    (local.set $of_customer (i64.add (i64.load (i32.const 408)) (local.get $amount)))
    (i64.store (i32.const 408) (local.get $of_customer))
    (if (call $put_entry (i32.const 400) (i32.const 8) (i32.const 408) (i32.const 8)) (then (unreachable)))
    (if (i64.eq (local.get $amount) (i64.const POISON)) (then (unreachable)))
    (i64.add
      (i64.mul (i64.const USE_STATE) (i64.load (local.get $place)))
      (i64.mul (i64.const USE_ENTRIES) (local.get $of_customer))))
  (func (export "rowmill_batch") (param $ptr i32) (param $len i32) (result i64)
    (local $rows i32) (local $row_at i32) (local $op i64) (local $actions i32)
    (local $customer i64) (local $amount i64) (local $total i64)
    (local.set $rows (call $rows (local.get $ptr)))
    ;; [0, 0, [[row, 2, [TOTAL, total]] ...]]
    (global.set $out (i32.const 65544))
    (block $rows_end
      (loop $next
        (br_if $rows_end (i32.ge_u (local.get $row_at) (local.get $rows)))
        (global.set $row (local.get $row_at))
        (drop (call $array))
        (drop (call $integer))
        (local.set $op (call $integer))
        (drop (call $integer))
        (drop (call $array))
        (local.set $customer (call $integer))
        (local.set $amount (call $integer))
        ;; insert, or read of a copy, or update where there is a total of each
        (if (i32.or (i64.le_u (local.get $op) (i64.const LAST_OP)) (i64.eq (local.get $op) (i64.const 4)))
          (then
            (local.set $total (call $add (local.get $customer) (local.get $amount)))
            (if (i64.eq (local.get $amount) (i64.const REFUSED))
              (then
                ;; [row, 6, 1, nil]
                (call $put (i32.const 0x94))
                (call $put (i32.const 0xce))
                (call $put_u32 (local.get $row_at))
                (call $put (i32.const 6))
                (call $put (i32.const 1))
                (call $put (i32.const 0xc0)))
              (else
                (call $put (i32.const 0x93))
                (call $put (i32.const 0xce))
                (call $put_u32 (local.get $row_at))
                (call $put (i32.const 2))
                (call $put (i32.const 0x92))
                (call $put (i32.const TOTAL))
                (call $put (i32.const 0xd3))
                (call $put_u32 (i32.wrap_i64 (i64.shr_u (local.get $total) (i64.const 32))))
                (call $put_u32 (i32.wrap_i64 (local.get $total)))))
            (local.set $actions (i32.add (local.get $actions) (i32.const 1)))))
        (local.set $row_at (i32.add (local.get $row_at) (i32.const 1)))
        (br $next)))
    (global.set $row (i32.const -1))
    (local.set $len (i32.sub (global.get $out) (i32.const 65536)))
    (global.set $out (i32.const 65536))
    (call $put (i32.const 0x93))
    (call $put (i32.const 0))
    (call $put (i32.const 0))
    (call $put (i32.const 0xdd))
    (call $put_u32 (local.get $actions))
    (i64.or (i64.const 0x1000000000000) (i64.extend_i32_u (local.get $len))))
  (@custom "rowmill.plugin" "MANIFEST"))
"#;
