// The section rowmill.plugin, which asc can't write: a MessagePack map.

const ABI_VERSION = 1 << 16;

function text(value) {
  const bytes = Buffer.from(value, "utf8");
  const head = Buffer.alloc(5);
  head[0] = 0xdb;
  head.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

function number(value) {
  const bytes = Buffer.alloc(5);
  bytes[0] = 0xce;
  bytes.writeUInt32BE(value, 1);
  return bytes;
}

function leb128(value) {
  const bytes = [];
  for (; value > 0x7f; value >>>= 7) bytes.push((value & 0x7f) | 0x80);
  return Buffer.from([...bytes, value]);
}

/** The module with the section appended: id 0, its length, its name with a length, the map. */
export function withManifest(module, { kind, name, version, config_schema }) {
  const pairs = [
    [text("abi"), number(ABI_VERSION)],
    [text("kind"), text(kind)],
    [text("name"), text(name)],
    [text("version"), text(version)],
    [text("config_schema"), text(JSON.stringify(config_schema))],
  ];
  const title = Buffer.from("rowmill.plugin");
  const content = Buffer.concat([leb128(title.length), title, Buffer.from([0x80 | pairs.length]), ...pairs.flat()]);
  return Buffer.concat([module, Buffer.from([0]), leb128(content.length), content]);
}
