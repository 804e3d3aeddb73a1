;; Wants a megabyte of random bytes at once.
(import "rowmill" "random" (func $random (param i32 i32 i32)))

(func $evil (param $ptr i32) (param $len i32) (result i64)
  (drop (memory.grow (i32.const 16)))
  (call $random (i32.const 0) (i32.const 0) (i32.const 1048576))
  (i64.const 0x3000000004))
