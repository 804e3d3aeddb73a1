;; Wants random bytes of a row that is not in the batch.
(import "rowmill" "random" (func $random (param i32 i32 i32)))

(func $evil (param $ptr i32) (param $len i32) (result i64)
  (call $random (i32.const -1) (i32.const 0) (i32.const 8))
  (i64.const 0x3000000004))
