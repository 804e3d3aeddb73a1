;; Traps.
(func $evil (param $ptr i32) (param $len i32) (result i64)
  (drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))
  (i64.const 0x3000000004))
