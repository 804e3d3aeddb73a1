;; Answers 0 to rowmill_init.
(func (export "rowmill_init") (param i32 i32) (result i64)
  (i64.const 0))
