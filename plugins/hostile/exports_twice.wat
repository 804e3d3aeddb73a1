;; Exports two things under one name.
(func (export "twice"))

(func (export "twice"))
