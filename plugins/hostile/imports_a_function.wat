;; Wants a function of the host that is not offered.
(import "env" "system" (func (param i32) (result i32)))
