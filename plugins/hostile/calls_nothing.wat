;; Calls an element of a table that holds none.
(table 1 funcref)

(func $evil (param $ptr i32) (param $len i32) (result i64)
  (call_indirect (result i64) (i32.const 0)))
