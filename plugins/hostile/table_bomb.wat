;; Makes a table grow until it is refused, then traps.
(table $table 1 funcref)

(func $evil (param $ptr i32) (param $len i32) (result i64)
  (loop $again
    (br_if $again (i32.ne (i32.const -1) (table.grow $table (ref.null func) (i32.const 1000)))))
  (unreachable))
