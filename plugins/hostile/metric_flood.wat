;; Counts twenty thousand times, with kinds, names and values that are none among them.
(import "rowmill" "metric" (func $metric (param i32 i32 i32 f64)))

(func $evil (param $ptr i32) (param $len i32) (result i64)
  (local $left i32)
  (local.set $left (i32.const 20000))
  (i32.store8 (i32.const 1024) (i32.const 109))
  (loop $again
    (call $metric (i32.const 0) (i32.const 1024) (i32.const 1) (f64.const 1))
    (call $metric (i32.const 0) (i32.const 1024) (i32.const 1) (f64.const nan))
    (call $metric (i32.const 77) (i32.const 1024) (i32.const 1) (f64.const 1))
    (call $metric (i32.const 1) (i32.const 65536) (i32.const 65536) (f64.const inf))
    (local.set $left (i32.sub (local.get $left) (i32.const 1)))
    (br_if $again (local.get $left)))
  (i64.const 0x3000000004))
