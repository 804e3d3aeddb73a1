;; Traps.
(func $evil (param $ptr i32) (param $len i32) (result i64)
  (drop (i32.div_u (local.get $len) (i32.const 0)))
  (i64.const 0x3000000004))
