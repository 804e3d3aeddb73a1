;; Calls itself until the stack ends.
(func $evil (param $ptr i32) (param $len i32) (result i64)
  (i64.add (call $evil (local.get $ptr) (local.get $len)) (i64.const 1)))
