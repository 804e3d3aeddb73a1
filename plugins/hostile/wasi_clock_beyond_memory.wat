;; Wants the time outside of its memory.
(import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))

(func $evil (param $ptr i32) (param $len i32) (result i64)
  (drop (call $time (i32.const 0) (i64.const 0) (i32.const -4)))
  (i64.const 0x3000000004))
