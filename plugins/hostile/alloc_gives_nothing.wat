;; Never has room for its input.
(func (export "rowmill_alloc") (param i32) (result i32)
  (i32.const 0))
