;; Traps.
(func $evil (param $ptr i32) (param $len i32) (result i64)
  (drop (i32.trunc_f64_s (f64.const nan)))
  (i64.const 0x3000000004))
