;; Logs bytes outside of its memory.
(import "rowmill" "log" (func $log (param i32 i32 i32)))

(func $evil (param $ptr i32) (param $len i32) (result i64)
  (call $log (i32.const 1) (i32.const -1) (i32.const -1))
  (i64.const 0x3000000004))
