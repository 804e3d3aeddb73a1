;; Traps.
(func $evil (param $ptr i32) (param $len i32) (result i64)
  (memory.fill (i32.const -16) (i32.const 0) (i32.const 1000000))
  (i64.const 0x3000000004))
