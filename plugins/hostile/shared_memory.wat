;; Shares its memory between threads.
(memory (export "memory") 2 2 shared)
