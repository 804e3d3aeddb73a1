;; Wants more memory than it may have from the beginning.
(memory (export "memory") 65536)
