;; Answers with an empty range.
(func $evil (param $ptr i32) (param $len i32) (result i64)
  (i64.const 0x1000000000))
