/** What a plugin is made of: tables, what it wants of them, rows and patches. */

import { Reader, Value, Writer } from "./msgpack";

/** A column of a table. */
@final
export class Column {
  constructor(
    public name: string,
    public typeOid: u32,
    public typmod: i32,
    public typeName: string,
    public nullable: bool,
    public key: bool,
  ) {}
}

/** One version of a relation. */
@final
export class Table {
  columns: Column[] = [];

  constructor(
    public index: i64,
    public schema: string,
    public name: string,
    /** d, f, i or n. */
    public replicaIdentity: string,
  ) {}

  /** The index of a column, or -1. */
  find(name: string): i32 {
    for (let at = 0; at < this.columns.length; at++) if (this.columns[at].name == name) return at;
    return -1;
  }
}

export const enum Action {
  Use,
  PassBy,
  Drop,
  Refuse,
}

/** What a plugin wants of a table. As it is, it uses the table and reads nothing of it. */
@final
export class Plan {
  action: Action = Action.Use;
  reason: string = "";
  /** The whole old row is needed: REPLICA IDENTITY FULL. */
  needsFullImages: bool = false;
  reads: i32[] = [];
  writes: i32[] = [];
  /** Anything to remember for the table's rows. */
  ofYours: i64 = 0;

  constructor(public index: i64) {}

  /** Asks for a column; returns its place in `row.values`. */
  read(column: i32): i32 {
    return this.reads.push(column) - 1;
  }

  /** Declares that patches may touch a column. */
  write(column: i32): void {
    this.writes.push(column);
  }

  /** Lets the table's rows go past the plugin, at no cost. */
  passBy(): void {
    this.action = Action.PassBy;
  }

  /** Refuses the table: the pipeline doesn't start. */
  refuse(reason: string): void {
    this.action = Action.Refuse;
    this.reason = reason;
  }
}

export const enum Op {
  Insert,
  Update,
  Delete,
  Truncate,
  SnapshotRead,
  Message,
}

export const enum Image {
  New,
  Old,
  OldKey,
}

/** One image of a change. */
@final
export class Row {
  plan: Plan = new Plan(-1);
  /** In the batch: for `random`. */
  index: i32 = 0;
  op: Op = Op.Insert;
  image: Image = Image.New;
  /** How many of `values` belong to this row. */
  count: i32 = 0;
  /** In the order in which `schema` asked for them. */
  values: Value[] = [];
  rejectCode: string | null = null;
  rejectReason: string = "";
  dropped: bool = false;

  /** Rejects the row's change. No value of the row may stand in the reason: it is logged. */
  reject(code: string, reason: string): void {
    this.rejectCode = code;
    this.rejectReason = reason;
  }

  /** Drops the change: both images go. */
  drop(): void {
    this.dropped = true;
  }
}

/** What changes of an image. */
@final
export class Patch {
  out: Writer = new Writer();
  values: i32 = 0;

  /** Begins a column; write exactly one value to what it returns. */
  @inline
  set(column: i32): Writer {
    this.out.int(column);
    this.values += 2;
    return this.out;
  }
}

/** A plugin: derive from `Filter` or `Transform`. */
export abstract class Plugin {
  /** Takes what stands under `config:`; returns what is wrong with it. */
  init(config: Reader, value: Value): string | null {
    config.read(value);
    return value.kind == 1 ? null : "the plugin takes no config";
  }

  /** Says what is wanted of a table. Called once per relation version, before its first row. */
  abstract schema(table: Table, plan: Plan): void;

  abstract get isFilter(): bool;
  abstract matches(row: Row): bool;
  abstract transform(row: Row, patch: Patch): void;
}

export abstract class Filter extends Plugin {
  get isFilter(): bool {
    return true;
  }
  transform(_row: Row, _patch: Patch): void {}
}

export abstract class Transform extends Plugin {
  get isFilter(): bool {
    return false;
  }
  matches(_row: Row): bool {
    return true;
  }
}
