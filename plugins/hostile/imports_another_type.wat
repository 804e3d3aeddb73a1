;; Wants `log` with a type that it has not.
(import "rowmill" "log" (func (param i64)))
