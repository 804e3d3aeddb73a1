;; Takes all memory in rowmill_init, then traps.
(func (export "rowmill_init") (param i32 i32) (result i64)
  (loop $again
    (br_if $again (i32.ne (i32.const -1) (memory.grow (i32.const 1)))))
  (unreachable))
