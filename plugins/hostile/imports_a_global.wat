;; Wants a global of the host.
(import "env" "base" (global i32))
