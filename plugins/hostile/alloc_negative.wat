;; Gives a buffer at the end of all addresses.
(func (export "rowmill_alloc") (param i32) (result i32)
  (i32.const -8))
