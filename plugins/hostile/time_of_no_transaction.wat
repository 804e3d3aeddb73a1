;; Wants the time of a transaction that is not in the batch.
(import "rowmill" "now_us" (func $now_us (param i32) (result i64)))

(func $evil (param $ptr i32) (param $len i32) (result i64)
  (drop (call $now_us (i32.const 999)))
  (i64.const 0x3000000004))
