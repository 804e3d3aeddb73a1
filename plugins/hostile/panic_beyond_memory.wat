;; Panics with bytes outside of its memory.
(import "rowmill" "panic" (func $panic (param i32 i32)))

(func $evil (param $ptr i32) (param $len i32) (result i64)
  (call $panic (i32.const -4) (i32.const 8))
  (i64.const 0x3000000004))
