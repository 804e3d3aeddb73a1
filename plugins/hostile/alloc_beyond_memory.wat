;; Gives a buffer that ends behind its memory.
(func (export "rowmill_alloc") (param i32) (result i32)
  (i32.const 131064))
