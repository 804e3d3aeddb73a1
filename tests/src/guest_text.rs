//! What the guests in WebAssembly text have in common.

/// Memory: replies to all but batches below 64 KiB, the reply to a batch from there to 4 MiB, then the input buffer.
/// `$at` is where the input is read, `$out` where the reply is written. Imports come before it, the other exports behind.
pub const GUEST: &str = r#"(memory (export "memory") 80)
  (global $heap (mut i32) (i32.const 4194304))
  (global $at (mut i32) (i32.const 0))
  (global $out (mut i32) (i32.const 0))
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
  (func $byte (result i32)
    (global.set $at (i32.add (global.get $at) (i32.const 1)))
    (i32.load8_u (i32.sub (global.get $at) (i32.const 1))))
  (func $big_endian (param $bytes i32) (result i64) (local $value i64)
    (loop $next
      (local.set $value (i64.or (i64.shl (local.get $value) (i64.const 8)) (i64.extend_i32_u (call $byte))))
      (br_if $next (local.tee $bytes (i32.sub (local.get $bytes) (i32.const 1)))))
    (local.get $value))
  ;; The length of the array whose header comes next.
  (func $array (result i32) (local $head i32)
    (local.set $head (call $byte))
    (if (i32.eq (local.get $head) (i32.const 0xdc)) (then (return (i32.wrap_i64 (call $big_endian (i32.const 2))))))
    (if (i32.eq (local.get $head) (i32.const 0xdd)) (then (return (i32.wrap_i64 (call $big_endian (i32.const 4))))))
    (i32.and (local.get $head) (i32.const 15)))
  ;; An integer; anything else of one or three bytes is 0.
  (func $integer (result i64) (local $head i32) (local $bytes i32) (local $unused i64)
    (local.set $head (call $byte))
    (if (i32.lt_u (local.get $head) (i32.const 0x80)) (then (return (i64.extend_i32_u (local.get $head)))))
    (if (i32.ge_u (local.get $head) (i32.const 0xe0))
      (then (return (i64.sub (i64.extend_i32_u (local.get $head)) (i64.const 256)))))
    (if (i32.and (i32.ge_u (local.get $head) (i32.const 0xcc)) (i32.le_u (local.get $head) (i32.const 0xd3)))
      (then
        (local.set $bytes (i32.shl (i32.const 1) (i32.and (local.get $head) (i32.const 3))))
        (local.set $unused (call $big_endian (local.get $bytes)))
        (if (i32.ge_u (local.get $head) (i32.const 0xd0))
          (then
            (local.set $bytes (i32.sub (i32.const 64) (i32.shl (local.get $bytes) (i32.const 3))))
            (local.set $unused (i64.shr_s
              (i64.shl (local.get $unused) (i64.extend_i32_u (local.get $bytes)))
              (i64.extend_i32_u (local.get $bytes))))))
        (return (local.get $unused))))
    ;; ext 1 of one byte: absent, or not sent.
    (if (i32.eq (local.get $head) (i32.const 0xc7))
      (then (global.set $at (i32.add (global.get $at) (i32.const 2)))))
    (i64.const 0))
  (func $put (param $byte i32)
    (i32.store8 (global.get $out) (local.get $byte))
    (global.set $out (i32.add (global.get $out) (i32.const 1))))
  (func $put_u32 (param $value i32)
    (call $put (i32.shr_u (local.get $value) (i32.const 24)))
    (call $put (i32.shr_u (local.get $value) (i32.const 16)))
    (call $put (i32.shr_u (local.get $value) (i32.const 8)))
    (call $put (local.get $value)))
  ;; Goes to the rows of a batch, `[sequence, flags, [[six integers] ...], rows]`, and tells how many there are.
  (func $rows (param $ptr i32) (result i32) (local $left i32) (local $integers i32)
    (global.set $at (local.get $ptr))
    (drop (call $array))
    (drop (call $integer))
    (drop (call $integer))
    (local.set $left (call $array))
    (block $transactions_end
      (loop $transaction
        (br_if $transactions_end (i32.eqz (local.get $left)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (local.set $integers (call $array))
        (loop $next
          (drop (call $integer))
          (br_if $next (local.tee $integers (i32.sub (local.get $integers) (i32.const 1)))))
        (br $transaction)))
    (call $array))"#;
