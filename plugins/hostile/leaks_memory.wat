;; Takes a megabyte more with each batch and gives none back.
(func $evil (param $ptr i32) (param $len i32) (result i64)
  (drop (memory.grow (i32.const 16)))
  (i64.const 0x3000000004))
