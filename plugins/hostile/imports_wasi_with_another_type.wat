;; Wants an unsupported function of WASI with a result that none has.
(import "wasi_snapshot_preview1" "path_open" (func (result f64)))
