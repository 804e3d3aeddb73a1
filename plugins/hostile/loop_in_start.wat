;; Never comes back from its start function.
(start $start)

(func $start (loop $again (br $again)))
