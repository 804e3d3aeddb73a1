;; Traps.
(func $evil (param $ptr i32) (param $len i32) (result i64)
  (drop (i32.load (i32.const -4)))
  (i64.const 0x3000000004))
