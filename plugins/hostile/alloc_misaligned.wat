;; Gives a buffer that is not aligned to 8.
(func (export "rowmill_alloc") (param i32) (result i32)
  (i32.const 65537))
