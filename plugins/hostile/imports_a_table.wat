;; Wants a table of the host.
(import "env" "table" (table 1 funcref))
