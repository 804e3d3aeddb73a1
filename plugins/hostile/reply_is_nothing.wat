;; Answers 0.
(func $evil (param $ptr i32) (param $len i32) (result i64)
  (i64.const 0))
