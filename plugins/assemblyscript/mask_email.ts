/** Masks one column with e-mail addresses in every image: alice@example.org becomes a***@example.org. */

import { Kind, Patch, Plan, Reader, Row, Table, Transform, Value, Writer, register } from "./rowmill";
export * from "./exports";

const OID_TEXT: u32 = 25;
const OID_BPCHAR: u32 = 1042;
const OID_VARCHAR: u32 = 1043;
/** A length limit stands in the typmod with this added. */
const TYPMOD_HEADER = 4;
const AT: u8 = 0x40;
const STARS = String.UTF8.encode("***");

/** How many bytes the first `characters` of a text take. */
function bytesOf(text: usize, length: i32, characters: i32): i32 {
  let at = 0;
  for (; at < length && characters > 0; characters--) {
    const first = load<u8>(text + at);
    at += first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  }
  return min(at, length);
}

/**
 * First letter, stars, and the address from its last @ on, cut to what the column holds. An address without a first
 * letter or without an @ shows nothing.
 */
function writeMasked(out: Writer, text: usize, length: i32, lengthMax: i32): void {
  let domain = length;
  while (domain > 0 && load<u8>(text + domain - 1) != AT) domain--;
  const tail = domain > 0 ? domain - 1 : length;
  const first = domain > 1 && lengthMax > 0 ? bytesOf(text, tail, 1) : 0;
  let left = lengthMax - (first > 0 ? 1 : 0);
  const stars = min(STARS.byteLength, left);
  left -= stars;
  const tailLength = bytesOf(text + tail, length - tail, left);
  out.textHead(first + stars + tailLength);
  out.raw(text, first);
  out.raw(changetype<usize>(STARS), stars);
  out.raw(text + tail, tailLength);
}

class MaskEmail extends Transform {
  private column: string = "";

  init(config: Reader, value: Value): string | null {
    config.read(value);
    if (value.kind != Kind.Map) return "config must be a map with `column`";
    for (let pairs = value.length; pairs > 0; pairs--) {
      config.read(value);
      if (value.kind != Kind.Text || value.text() != "column") return "config has a key other than `column`";
      config.read(value);
      if (value.kind != Kind.Text || value.length == 0) return "`column` must be the name of a column";
      this.column = value.text();
    }
    return this.column == "" ? "config lacks `column`" : null;
  }

  schema(table: Table, plan: Plan): void {
    const at = table.find(this.column);
    if (at < 0) {
      plan.refuse(`table ${table.schema}.${table.name} has no column ${this.column}`);
      return;
    }
    const column = table.columns[at];
    const oid = column.typeOid;
    if (oid != OID_TEXT && oid != OID_VARCHAR && oid != OID_BPCHAR && column.typeName != "citext") {
      plan.refuse(`column ${this.column} is of type ${column.typeName}: only text can be masked`);
    } else if (column.key) {
      plan.refuse(`column ${this.column} is part of the key: masked, different rows would become one`);
    }
    plan.read(at);
    plan.write(at);
    const isLimited = oid != OID_TEXT && column.typmod >= TYPMOD_HEADER;
    plan.ofYours = isLimited ? column.typmod - TYPMOD_HEADER : i32.MAX_VALUE;
  }

  transform(row: Row, patch: Patch): void {
    const email = row.values[0];
    if (email.kind == Kind.Text) {
      writeMasked(patch.set(row.plan.writes[0]), email.bytes, email.length, <i32>row.plan.ofYours);
    } else if (email.kind != Kind.Null && email.kind != Kind.Unchanged && email.kind != Kind.Absent) {
      row.reject("type", "the masked column holds something else than text");
    }
  }
}

register(new MaskEmail());
