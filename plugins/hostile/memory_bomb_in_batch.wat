;; Takes all memory that it is given, then traps.
(func $evil (param $ptr i32) (param $len i32) (result i64)
  (loop $again
    (br_if $again (i32.ne (i32.const -1) (memory.grow (i32.const 1)))))
  (unreachable))
