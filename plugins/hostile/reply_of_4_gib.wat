;; Answers with all addresses that there are.
(func $evil (param $ptr i32) (param $len i32) (result i64)
  (i64.const -1))
