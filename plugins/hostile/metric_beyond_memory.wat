;; Counts under a name outside of its memory.
(import "rowmill" "metric" (func $metric (param i32 i32 i32 f64)))

(func $evil (param $ptr i32) (param $len i32) (result i64)
  (call $metric (i32.const 0) (i32.const 0x7fffffff) (i32.const 8) (f64.const 1))
  (i64.const 0x3000000004))
