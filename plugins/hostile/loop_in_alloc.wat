;; Never gives a buffer.
(func (export "rowmill_alloc") (param i32) (result i32)
  (loop $again (br $again))
  (unreachable))
