/** What the host offers. */

// @ts-ignore: decorator
@external("rowmill", "log")
declare function hostLog(level: i32, text: usize, length: i32): void;
// @ts-ignore: decorator
@external("rowmill", "panic")
declare function hostPanic(text: usize, length: i32): void;
// @ts-ignore: decorator
@external("rowmill", "metric")
declare function hostMetric(kind: i32, name: usize, length: i32, value: f64): void;
// @ts-ignore: decorator
@external("rowmill", "now_us")
declare function hostNow(transaction: i32): i64;
// @ts-ignore: decorator
@external("rowmill", "random")
declare function hostRandom(row: i32, bytes: usize, length: i32): void;

export const enum Level {
  Error = 1,
  Warn,
  Info,
  Debug,
  Trace,
}

export const enum MetricKind {
  Counter,
  Gauge,
  Histogram,
}

/** Writes a line to Rowmill's log. */
export function log(level: Level, text: string): void {
  const bytes = String.UTF8.encode(text);
  hostLog(level, changetype<usize>(bytes), bytes.byteLength);
}

/** Counts under `rowmill_plugin_NAME`. */
export function metric(kind: MetricKind, name: string, value: f64): void {
  const bytes = String.UTF8.encode(name);
  hostMetric(kind, changetype<usize>(bytes), bytes.byteLength, value);
}

/** When a transaction of the batch was committed, in microseconds since 1970. */
export function commitTime(transaction: i32): i64 {
  return hostNow(transaction);
}

/** Fills bytes: the same for the same row, however often it is replayed. */
export function random(row: i32, bytes: ArrayBuffer): void {
  hostRandom(row, changetype<usize>(bytes), bytes.byteLength);
}

/** In place of AssemblyScript's `abort` (asc --use): tells the host text and place, and traps. */
export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  const text = `${message ? message : "aborted"}, at ${file ? file : "?"}:${line}:${column}`;
  const bytes = String.UTF8.encode(text);
  hostPanic(changetype<usize>(bytes), bytes.byteLength);
  unreachable();
}
