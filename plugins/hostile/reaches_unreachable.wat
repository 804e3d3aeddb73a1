;; Traps.
(func $evil (param $ptr i32) (param $len i32) (result i64)
  (unreachable))
