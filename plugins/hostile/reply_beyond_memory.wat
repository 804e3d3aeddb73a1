;; Answers with bytes behind the end of its memory.
(func $evil (param $ptr i32) (param $len i32) (result i64)
  (i64.const 0x7fffffff00000010))
