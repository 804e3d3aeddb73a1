;; Never takes a buffer back.
(func (export "rowmill_free") (param i32 i32)
  (loop $again (br $again)))
