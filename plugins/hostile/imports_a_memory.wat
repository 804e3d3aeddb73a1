;; Wants a memory of the host instead of its own.
(import "env" "memory" (memory 2))
