;; What a hostile plugin is made of, where it does nothing else: a transform of all columns that lets all rows pass and
;; may write the second column. Other files hold what they do otherwise; each field here stands unless the file has a
;; field of that name or export. A batch with `evil` somewhere in it is handed to $evil.
(memory (export "memory") 2)

(global $heap (mut i32) (i32.const 65536))

;; [0]: the reply of rowmill_init. [0, 0, nil, [1], 0, nil]: all columns, the second may be written. [0, 0, []]: pass.
(data $replies (i32.const 16) "\91\00............\00\00\96\00\00\c0\91\01\00\c0........\93\00\00\90")

(func (export "rowmill_abi") (result i32)
  (i32.const 0x10000))

(func (export "rowmill_alloc") (param $len i32) (result i32)
  (local $at i32)
  (local.set $at (global.get $heap))
  (global.set $heap
    (i32.and (i32.add (i32.add (local.get $at) (local.get $len)) (i32.const 15)) (i32.const -8)))
  (if (i32.gt_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536)))
    (then
      (if (i32.eq (i32.const -1)
            (memory.grow (i32.add (i32.div_u (local.get $len) (i32.const 65536)) (i32.const 1))))
        (then (return (i32.const 0))))))
  (local.get $at))

(func (export "rowmill_free") (param i32 i32))

(func (export "rowmill_init") (param i32 i32) (result i64)
  (i64.const 0x1000000002))

(func (export "rowmill_schema") (param i32 i32) (result i64)
  (i64.const 0x2000000008))

(func (export "rowmill_batch") (param $ptr i32) (param $len i32) (result i64)
  (if (result i64) (call $is_evil (local.get $ptr) (local.get $len))
    (then (call $evil (local.get $ptr) (local.get $len)))
    (else (i64.const 0x3000000004))))

(func $is_evil (param $at i32) (param $len i32) (result i32)
  (local $end i32)
  (local.set $end (i32.sub (i32.add (local.get $at) (local.get $len)) (i32.const 4)))
  (loop $next
    (if (i32.gt_s (local.get $at) (local.get $end))
      (then (return (i32.const 0))))
    (if (i32.eq (i32.load (local.get $at)) (i32.const 0x6c697665))
      (then (return (i32.const 1))))
    (local.set $at (i32.add (local.get $at) (i32.const 1)))
    (br $next))
  (unreachable))

(func $evil (param $ptr i32) (param $len i32) (result i64)
  (i64.const 0x3000000004))
