//go:build wasip1

package rowmill

import (
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

//go:wasmimport rowmill log
func hostLog(level int32, text unsafe.Pointer, length uint32)

//go:wasmimport rowmill panic
func hostPanic(text unsafe.Pointer, length uint32)

//go:wasmimport rowmill metric
func hostMetric(kind int32, name unsafe.Pointer, length uint32, value float64)

//go:wasmimport rowmill now_us
func hostNow(transaction int32) int64

//go:wasmimport rowmill random
func hostRandom(row int32, bytes unsafe.Pointer, length uint32)

// Levels of Log.
const (
	LevelError = iota + 1
	LevelWarn
	LevelInfo
	LevelDebug
	LevelTrace
)

// Log writes a line to Rowmill's log.
func Log(level int32, text string) {
	hostLog(level, unsafe.Pointer(unsafe.StringData(text)), uint32(len(text)))
}

// Kinds of Metric.
const (
	Counter = iota
	Gauge
	Histogram
)

// Metric counts under rowmill_plugin_NAME.
func Metric(kind int32, name string, value float64) {
	hostMetric(kind, unsafe.Pointer(unsafe.StringData(name)), uint32(len(name)), value)
}

// CommitTime is when a transaction of the batch was committed, in microseconds since 1970.
func CommitTime(transaction int) int64 { return hostNow(int32(transaction)) }

// Random fills bytes: the same for the same row, however often it is replayed.
func Random(row *Row, bytes []byte) {
	hostRandom(int32(row.Index), unsafe.Pointer(unsafe.SliceData(bytes)), uint32(len(bytes)))
}

// trapOnPanic is deferred by each export: the panic's text and place go to the host, and the instance ends.
func trapOnPanic() {
	thrown := recover()
	if thrown == nil {
		return
	}
	text := "a panic that is no text"
	switch thrown := thrown.(type) {
	case error:
		text = thrown.Error()
	case string:
		text = thrown
	}
	text += place()
	hostPanic(unsafe.Pointer(unsafe.StringData(text)), uint32(len(text)))
	syscall.Exit(2)
}

// place is where the panic began: the first frame below the runtime's.
func place() string {
	callers := make([]uintptr, 32)
	frames := runtime.CallersFrames(callers[:runtime.Callers(1, callers)])
	panicking := false
	for {
		frame, more := frames.Next()
		inRuntime := strings.HasPrefix(frame.Function, "runtime.")
		if panicking && !inRuntime {
			return ", at " + frame.File + ":" + strconv.Itoa(frame.Line)
		}
		panicking = panicking || frame.Function == "runtime.gopanic"
		if !more {
			return ""
		}
	}
}
