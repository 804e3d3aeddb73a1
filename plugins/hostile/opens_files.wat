;; Tries to open a file, to read and to connect; traps unless all of it is refused.
(import "wasi_snapshot_preview1" "path_open"
  (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "sock_accept" (func $connect (param i32 i32 i32) (result i32)))

(func $evil (param $ptr i32) (param $len i32) (result i64)
  (if (i32.ne (i32.const 52) (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 0)
        (i64.const -1) (i64.const -1) (i32.const 0) (i32.const 0)))
    (then (unreachable)))
  (if (i32.ne (i32.const 52) (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0)))
    (then (unreachable)))
  (if (i32.ne (i32.const 52) (call $connect (i32.const 0) (i32.const 0) (i32.const 0)))
    (then (unreachable)))
  (i64.const 0x3000000004))
