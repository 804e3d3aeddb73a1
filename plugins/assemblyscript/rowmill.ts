/**
 * A Rowmill plugin in AssemblyScript: this file has the exports of the plugin ABI.
 *
 *     import { Filter, Plan, Row, Table, register } from "./rowmill";
 *     export * from "./exports";
 *
 *     class PaidOnly extends Filter { ... }
 *     register(new PaidOnly());
 *
 * The contract is docs/reference/plugin-abi.md.
 */

import { Kind, Reader, Value, Writer } from "./msgpack";
import { Action, Column, Patch, Plan, Plugin, Row, Table } from "./plugin";

export { Kind, Reader, Value, Writer } from "./msgpack";
export { Action, Column, Filter, Image, Op, Patch, Plan, Plugin, Row, Table, Transform } from "./plugin";
export { Level, MetricKind, abort, commitTime, log, metric, random } from "./host";

const ABI_VERSION = 1 << 16;

let plugin: Plugin | null = null;

/** To be called at the top level of the plugin's file. */
export function register(one: Plugin): void {
  plugin = one;
}

/** A global of the module: the host reads it after a trap, to know which row it was. */
export let rowmill_row: i32 = 0;

// Kept from call to call, so that a steady state allocates nothing.
const reader = new Reader();
const out = new Writer();
const rejects = new Writer();
const patch = new Patch();
const row = new Row();
const value = new Value();
const plans: Plan[] = [];

export function rowmill_abi(): i32 {
  return ABI_VERSION;
}

export function rowmill_alloc(length: i32): usize {
  return heap.alloc(length);
}

export function rowmill_free(at: usize, _length: i32): void {
  heap.free(at);
}

function reply(): i64 {
  return (<i64>out.start << 32) | <i64>out.length;
}

function done(elements: i32): void {
  out.clear();
  out.array(elements);
  out.int(0);
}

function fail(message: string): i64 {
  out.clear();
  out.array(2);
  out.int(2);
  out.text(message);
  return reply();
}

/** `[abi, host_features, name, config, ...]` */
export function rowmill_init(at: usize, length: i32): i64 {
  reader.open(at, length);
  if (reader.array(4) < 0 || !reader.skip(3)) return fail("what rowmill_init was given can't be read");
  const error = plugin!.init(reader, value);
  if (error) return fail(error);
  done(1);
  return reply();
}

function readText(): string | null {
  reader.read(value);
  return value.kind == Kind.Text ? value.text() : null;
}

/** `[name, type_oid, typmod, type_name, nullable, key, ...]` */
function readColumn(): Column | null {
  const length = reader.array(6);
  if (length < 0) return null;
  const name = readText();
  reader.read(value);
  const typeOid = <u32>value.integer;
  reader.read(value);
  const typmod = <i32>value.integer;
  const typeName = readText();
  reader.read(value);
  const nullable = value.integer == 1;
  reader.read(value);
  const key = value.integer == 1;
  if (!name || !typeName || value.kind != Kind.Bool || !reader.skip(length - 6)) return null;
  return new Column(name, typeOid, typmod, typeName, nullable, key);
}

/** `[relation_index, version, schema, table, replica_identity, columns, ...]` */
function readTable(): Table | null {
  if (reader.array(6) < 0) return null;
  reader.read(value);
  const index = value.integer;
  if (value.kind != Kind.Int || !reader.skip(1)) return null;
  const schema = readText();
  const name = readText();
  const identity = readText();
  const count = reader.array(0);
  if (!schema || !name || !identity || count < 0) return null;
  const table = new Table(index, schema, name, identity);
  for (let at = 0; at < count; at++) {
    const column = readColumn();
    if (!column) return null;
    table.columns.push(column);
  }
  return table;
}

function remember(plan: Plan): void {
  for (let at = 0; at < plans.length; at++) {
    if (plans[at].index == plan.index) {
      plans[at] = plan;
      row.plan = plan;
      return;
    }
  }
  plans.push(plan);
}

function writeIndexes(indexes: i32[]): void {
  out.array(indexes.length);
  for (let at = 0; at < indexes.length; at++) out.int(indexes[at]);
}

/** Replies `[0, action, read, writes, images, outputs]`, or `[0, 3, reason]`. */
export function rowmill_schema(at: usize, length: i32): i64 {
  reader.open(at, length);
  const table = readTable();
  if (!table) return fail("what rowmill_schema was given can't be read");
  const plan = new Plan(table.index);
  plugin!.schema(table, plan);
  remember(plan);
  done(plan.action == Action.Use ? 6 : 3);
  out.int(plan.action);
  if (plan.action == Action.Use) {
    writeIndexes(plan.reads);
    writeIndexes(plan.writes);
    out.int(plan.needsFullImages ? 1 : 0);
    out.nil();
  } else {
    out.text(plan.reason);
  }
  return reply();
}

/** Makes the plan of a relation that of the row. */
function findPlan(index: i64): bool {
  for (let at = 0; at < plans.length; at++) {
    if (plans[at].index == index) {
      row.plan = plans[at];
      return true;
    }
  }
  return false;
}

/** Reads `[relation_index, op, image, values]` into `row`. */
function readRow(at: i32): bool {
  rowmill_row = at;
  if (reader.array(4) != 4) return false;
  reader.read(value);
  if (value.kind != Kind.Int || (row.plan.index != value.integer && !findPlan(value.integer))) return false;
  reader.read(value);
  row.op = <i32>value.integer;
  reader.read(value);
  row.image = <i32>value.integer;
  const count = reader.array(0);
  if (count < 0) return false;
  const values = row.values;
  while (values.length < count) values.push(new Value());
  for (let column = 0; column < count; column++) {
    const into = unchecked(values[column]);
    reader.read(into);
    if (into.kind == Kind.Bad) return false;
  }
  row.index = at;
  row.count = count;
  if (row.rejectCode) row.rejectCode = null;
  row.dropped = false;
  return true;
}

/** Replies `[0, verdict, rejects]`. */
function filter(plugin: Plugin, count: i32): bool {
  const bytes = (count + 7) >> 3;
  out.binHead(bytes);
  // Nothing else is written to `out` meanwhile, so it stays where it is.
  const bitmap = out.zeros(bytes);
  let rejected = 0;
  rejects.clear();
  for (let at = 0; at < count; at++) {
    if (!readRow(at)) return false;
    const matches = plugin.matches(row);
    if (row.rejectCode) {
      rejected++;
      rejects.array(3);
      rejects.int(at);
      rejects.text(row.rejectCode!);
      rejects.text(row.rejectReason);
    } else if (matches) {
      const byte = bitmap + <usize>(at >> 3);
      const bits: i32 = load<u8>(byte) | (1 << (at & 7));
      store<u8>(byte, <u8>bits);
    }
  }
  out.array(rejected);
  out.raw(rejects.start, rejects.length);
  return true;
}

/** Appends the action for the row; false where it passes as it is. */
function writeAction(at: i32): bool {
  const rejected = row.rejectCode != null;
  if (!rejected && !row.dropped && patch.values == 0) return false;
  out.array(rejected ? 4 : row.dropped ? 2 : 3);
  out.int(at);
  out.int(rejected ? 6 : row.dropped ? 1 : 2);
  if (rejected) {
    out.text(row.rejectCode!);
    out.text(row.rejectReason);
  } else if (!row.dropped) {
    out.array(patch.values);
    out.raw(patch.out.start, patch.out.length);
  }
  return true;
}

/** Replies `[0, default, actions]`. */
function transform(plugin: Plugin, count: i32): bool {
  out.int(0);
  const open = out.openArray();
  let actions = 0;
  for (let at = 0; at < count; at++) {
    if (!readRow(at)) return false;
    patch.out.clear();
    patch.values = 0;
    plugin.transform(row, patch);
    if (writeAction(at)) actions++;
  }
  out.closeArray(open, actions);
  return true;
}

/** `[sequence, flags, transactions, rows, ...]` */
export function rowmill_batch(at: usize, length: i32): i64 {
  reader.open(at, length);
  const count = reader.array(4) >= 0 && reader.skip(3) ? reader.array(0) : -1;
  if (count < 0) return fail("the batch can't be read");
  done(3);
  const one = plugin!;
  const isRead = one.isFilter ? filter(one, count) : transform(one, count);
  return isRead ? reply() : fail("the batch can't be read");
}
