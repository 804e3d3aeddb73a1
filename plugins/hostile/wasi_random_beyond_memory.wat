;; Wants random bytes outside of its memory.
(import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))

(func $evil (param $ptr i32) (param $len i32) (result i64)
  (drop (call $random (i32.const -8) (i32.const 16)))
  (i64.const 0x3000000004))
