;; Answers with more than may be answered.
(func $evil (param $ptr i32) (param $len i32) (result i64)
  (drop (memory.grow (i32.const 40)))
  (i64.const 0x0000000000200000))
