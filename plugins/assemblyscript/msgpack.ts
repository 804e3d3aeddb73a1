/** MessagePack in linear memory: a reader that trusts no length, and a writer into a buffer that is kept. */

export const enum Kind {
  /** No MessagePack, or cut off. */
  Bad,
  /** SQL NULL. */
  Null,
  /** A TOAST value that the server didn't send: not NULL. */
  Unchanged,
  /** Not in this image: not NULL. */
  Absent,
  /** `integer` is 0 or 1. */
  Bool,
  Int,
  Float,
  Text,
  Bytes,
  Ext,
  /** `length` elements follow. */
  Array,
  /** `length` pairs follow. */
  Map,
}

/** One value, or the head of an array or a map. Its bytes belong to the call: copy what shall stay. */
@final
export class Value {
  kind: Kind = Kind.Bad;
  length: i32 = 0;
  integer: i64 = 0;
  number: f64 = 0;
  /** Where the bytes of a text begin in memory. */
  bytes: usize = 0;

  /** Whether it is this text: `String.UTF8.encode("paid")`. NULL, unchanged and absent are no text. */
  @inline
  is(text: ArrayBuffer): bool {
    return (
      this.kind == Kind.Text &&
      this.length == text.byteLength &&
      memory.compare(this.bytes, changetype<usize>(text), this.length) == 0
    );
  }

  /** A copy as a string; allocates. */
  text(): string {
    return String.UTF8.decodeUnsafe(this.bytes, this.length);
  }
}

// Bytes behind the markers from 0xc0 on: a number or a length. nil, -, bool x2, bin x3, ext x3, float x2, uint x4,
// int x4, fixext x5, str x3, array x2, map x2
const widths: StaticArray<u8> = [
  0, 0, 0, 0, 1, 2, 4, 1, 2, 4, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 0, 0, 0, 0, 0, 1, 2, 4, 2, 4, 2, 4,
];

@final
export class Reader {
  at: usize = 0;
  end: usize = 0;

  open(bytes: usize, length: i32): void {
    this.at = bytes;
    this.end = bytes + <usize>length;
  }

  @inline
  private left(): u64 {
    return <u64>(this.end - this.at);
  }

  private bigEndian(width: i32): u64 {
    let value: u64 = 0;
    for (; width > 0; width--) value = (value << 8) | load<u8>(this.at++);
    return value;
  }

  private data(into: Value, kind: Kind, length: u64): void {
    if (length > this.left()) {
      into.kind = Kind.Bad;
      return;
    }
    into.kind = kind;
    into.length = <i32>length;
    into.bytes = this.at;
    this.at += <usize>length;
  }

  private ext(into: Value, length: u64): void {
    if (this.left() == 0) {
      into.kind = Kind.Bad;
      return;
    }
    const type = load<i8>(this.at++);
    this.data(into, type == 1 ? Kind.Unchanged : type == 2 ? Kind.Absent : Kind.Ext, length);
  }

  /** The elements take a byte each at least: a length beyond the bytes is a lie. */
  private items(into: Value, kind: Kind, length: u64): void {
    into.kind = length > this.left() ? Kind.Bad : kind;
    into.length = <i32>length;
  }

  /** The next value. The elements of an array or a map are read by further calls. */
  @inline
  read(into: Value): void {
    if (this.at < this.end) {
      const marker = load<u8>(this.at);
      if (marker <= 0x7f || marker >= 0xe0) {
        this.at++;
        into.kind = Kind.Int;
        into.integer = <i64>(<i8>marker);
        return;
      }
    }
    this.readOther(into);
  }

  private readOther(into: Value): void {
    if (this.at >= this.end) {
      into.kind = Kind.Bad;
      return;
    }
    const marker = load<u8>(this.at++);
    if (marker >= 0xa0 && marker <= 0xbf) return this.data(into, Kind.Text, marker & 0x1f);
    if (marker <= 0x8f) return this.items(into, Kind.Map, marker & 0x0f);
    if (marker <= 0x9f) return this.items(into, Kind.Array, marker & 0x0f);
    const width = <i32>unchecked(widths[marker - 0xc0]);
    if (<u64>width > this.left()) {
      into.kind = Kind.Bad;
      return;
    }
    const number = this.bigEndian(width);
    if (marker == 0xc0) into.kind = Kind.Null;
    else if (marker == 0xc1) into.kind = Kind.Bad;
    else if (marker <= 0xc3) {
      into.kind = Kind.Bool;
      into.integer = marker & 1;
    } else if (marker <= 0xc6) this.data(into, Kind.Bytes, number);
    else if (marker <= 0xc9) this.ext(into, number);
    else if (marker <= 0xcb) {
      into.kind = Kind.Float;
      into.number = marker == 0xca ? <f64>reinterpret<f32>(<u32>number) : reinterpret<f64>(number);
    } else if (marker <= 0xd3) {
      const shift = marker <= 0xcf ? 0 : 64 - 8 * width;
      into.kind = Kind.Int;
      into.integer = <i64>(number << shift) >> shift;
    } else if (marker <= 0xd8) this.ext(into, 1 << (marker - 0xd4));
    else if (marker <= 0xdb) this.data(into, Kind.Text, number);
    else this.items(into, marker <= 0xdd ? Kind.Array : Kind.Map, number);
  }

  /** Passes over values with all that is in them; false where the bytes are bad. */
  skip(count: i64): bool {
    for (; count > 0; count--) {
      this.read(scratch);
      if (scratch.kind == Kind.Bad) return false;
      if (scratch.kind == Kind.Array) count += scratch.length;
      if (scratch.kind == Kind.Map) count += 2 * <i64>scratch.length;
    }
    return true;
  }

  /** The length of the array that begins here; -1 where there is none of at least so many elements. */
  array(least: i32): i32 {
    this.read(scratch);
    return scratch.kind == Kind.Array && scratch.length >= least ? scratch.length : -1;
  }
}

const scratch = new Value();

@final
export class Writer {
  start: usize = 0;
  length: i32 = 0;
  private capacity: i32 = 0;

  clear(): void {
    this.length = 0;
  }

  /** Makes room for so many bytes more; returns where they go. */
  @inline
  reserve(more: i32): usize {
    if (more > this.capacity - this.length) this.grow(more);
    return this.start + <usize>this.length;
  }

  private grow(more: i32): void {
    let capacity = max(this.capacity, 1024);
    while (capacity - this.length < more) {
      if (capacity > 1 << 29) throw new Error("a reply larger than 1 GiB");
      capacity *= 2;
    }
    this.start = this.start == 0 ? heap.alloc(capacity) : heap.realloc(this.start, capacity);
    this.capacity = capacity;
  }

  @inline
  byte(value: u8): void {
    store<u8>(this.reserve(1), value);
    this.length++;
  }

  raw(bytes: usize, length: i32): void {
    memory.copy(this.reserve(length), bytes, length);
    this.length += length;
  }

  /** So many zeros. Returns where they begin, until the next growth. */
  zeros(length: i32): usize {
    const at = this.reserve(length);
    memory.fill(at, 0, length);
    this.length += length;
    return at;
  }

  private headed(marker: u8, value: u64, width: i32): void {
    this.byte(marker);
    for (width--; width >= 0; width--) this.byte(<u8>(value >> (8 * width)));
  }

  nil(): void {
    this.byte(0xc0);
  }

  bool(value: bool): void {
    this.byte(value ? 0xc3 : 0xc2);
  }

  int(value: i64): void {
    if (value >= -32 && value <= 127) this.byte(<u8>value);
    else if (value >= i32.MIN_VALUE && value <= i32.MAX_VALUE) this.headed(0xd2, value, 4);
    else this.headed(0xd3, value, 8);
  }

  float(value: f64): void {
    this.headed(0xcb, reinterpret<u64>(value), 8);
  }

  /** The head of a text of so many bytes: append them with `raw`. */
  textHead(length: i32): void {
    if (length <= 31) this.byte(<u8>(0xa0 | length));
    else if (length <= 0xff) this.headed(0xd9, length, 1);
    else this.headed(0xdb, length, 4);
  }

  text(text: string): void {
    const length = String.UTF8.byteLength(text);
    this.textHead(length);
    String.UTF8.encodeUnsafe(changetype<usize>(text), text.length, this.reserve(length));
    this.length += length;
  }

  binHead(length: i32): void {
    this.headed(0xc6, length, 4);
  }

  array(length: i32): void {
    if (length <= 15) this.byte(<u8>(0x90 | length));
    else this.headed(0xdd, length, 4);
  }

  /** Begins an array whose length isn't known yet; `closeArray` fills it in. */
  openArray(): i32 {
    this.headed(0xdd, 0, 4);
    return this.length;
  }

  closeArray(open: i32, length: i32): void {
    store<u32>(this.start + <usize>open - 4, bswap<u32>(length));
  }
}
