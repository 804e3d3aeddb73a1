;; Wants random bytes outside of its memory.
(import "rowmill" "random" (func $random (param i32 i32 i32)))

(func $evil (param $ptr i32) (param $len i32) (result i64)
  (call $random (i32.const 0) (i32.const -8) (i32.const 16))
  (i64.const 0x3000000004))
