;; Counts under ten thousand names.
(import "rowmill" "metric" (func $metric (param i32 i32 i32 f64)))

(func $evil (param $ptr i32) (param $len i32) (result i64)
  (local $left i32)
  (local.set $left (i32.const 10000))
  (loop $again
    (i32.store (i32.const 1024) (local.get $left))
    (i32.store8 (i32.const 1025) (i32.or (i32.load8_u (i32.const 1025)) (i32.const 32)))
    (i32.store8 (i32.const 1024) (i32.and (i32.load8_u (i32.const 1024)) (i32.const 127)))
    (i32.store8 (i32.const 1025) (i32.and (i32.load8_u (i32.const 1025)) (i32.const 127)))
    (call $metric (i32.const 0) (i32.const 1024) (i32.const 2) (f64.const 1))
    (local.set $left (i32.sub (local.get $left) (i32.const 1)))
    (br_if $again (local.get $left)))
  (i64.const 0x3000000004))
