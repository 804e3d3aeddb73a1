;; Tells the host a panic of 60 KiB, all of it control characters, then traps.
(import "rowmill" "panic" (func $panic (param i32 i32)))

(func $evil (param $ptr i32) (param $len i32) (result i64)
  (memory.fill (i32.const 65536) (i32.const 27) (i32.const 61440))
  (call $panic (i32.const 65536) (i32.const 61440))
  (unreachable))
