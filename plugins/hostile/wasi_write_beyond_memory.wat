;; Writes bytes outside of its memory to standard output.
(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))

(func $evil (param $ptr i32) (param $len i32) (result i64)
  (i32.store (i32.const 1024) (i32.const -1))
  (i32.store (i32.const 1028) (i32.const -1))
  (drop (call $write (i32.const 1) (i32.const 1024) (i32.const 1) (i32.const 1032)))
  (i64.const 0x3000000004))
