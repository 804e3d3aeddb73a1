;; Logs as much as it can, and more than a line each.
(import "rowmill" "log" (func $log (param i32 i32 i32)))

(func $evil (param $ptr i32) (param $len i32) (result i64)
  (local $left i32)
  (local.set $left (i32.const 20000))
  (loop $again
    (call $log (i32.const 1) (i32.const 65536) (i32.const 65536))
    (local.set $left (i32.sub (local.get $left) (i32.const 1)))
    (br_if $again (local.get $left)))
  (i64.const 0x3000000004))
