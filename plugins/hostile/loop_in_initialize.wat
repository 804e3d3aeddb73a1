;; Never comes back from _initialize.
(func (export "_initialize") (loop $again (br $again)))
