;; Answers with bytes in the buffer that its input lies in.
(func $evil (param $ptr i32) (param $len i32) (result i64)
  (i32.store (local.get $ptr) (i32.const 0x90000093))
  (i64.or (i64.shl (i64.extend_i32_u (local.get $ptr)) (i64.const 32)) (i64.const 4)))
