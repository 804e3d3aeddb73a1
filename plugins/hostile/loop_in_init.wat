;; Never comes back from rowmill_init.
(func (export "rowmill_init") (param i32 i32) (result i64)
  (loop $again (br $again))
  (unreachable))
