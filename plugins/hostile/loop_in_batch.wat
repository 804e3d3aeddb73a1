;; Never comes back from a batch.
(func $evil (param $ptr i32) (param $len i32) (result i64)
  (loop $again (br $again))
  (unreachable))
