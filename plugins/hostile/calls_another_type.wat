;; Calls a function as what it is not.
(table 1 funcref)
(elem (i32.const 0) $is_evil)

(func $evil (param $ptr i32) (param $len i32) (result i64)
  (call_indirect (result f64) (i32.const 0))
  (drop)
  (i64.const 0x3000000004))
