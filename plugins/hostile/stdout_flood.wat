;; Writes a megabyte of spaces to standard output, again and again.
(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))

(func $evil (param $ptr i32) (param $len i32) (result i64)
  (local $left i32)
  (drop (memory.grow (i32.const 20)))
  (memory.fill (i32.const 65536) (i32.const 32) (i32.const 1048576))
  (i32.store (i32.const 1024) (i32.const 65536))
  (i32.store (i32.const 1028) (i32.const 1048576))
  (local.set $left (i32.const 2000))
  (loop $again
    (drop (call $write (i32.const 1) (i32.const 1024) (i32.const 1) (i32.const 1032)))
    (local.set $left (i32.sub (local.get $left) (i32.const 1)))
    (br_if $again (local.get $left)))
  (i64.const 0x3000000004))
