;; Says that it works on row four billion, then traps.
(global $row (export "rowmill_row") (mut i32) (i32.const 0))

(func $evil (param $ptr i32) (param $len i32) (result i64)
  (global.set $row (i32.const -1))
  (unreachable))
