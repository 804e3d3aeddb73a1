//! Messages as the server sends them, in frames.

/// A pgoutput message in XLogData in CopyData.
pub(super) fn frame(message: &[u8]) -> Vec<u8> {
    let len = (4 + 25 + message.len()) as u32;
    [b"d", &len.to_be_bytes()[..], b"w", &[0; 24], message].concat()
}

pub(super) fn keepalive(at: u64) -> Vec<u8> {
    [b"d", &22_u32.to_be_bytes()[..], b"k", &at.to_be_bytes(), &[0; 9]].concat()
}

/// A block of a streamed transaction, around messages that carry their ids.
pub(super) fn block(top: u32, first: bool, messages: &[Vec<u8>]) -> Vec<u8> {
    let start = frame(&[b"S", &top.to_be_bytes()[..], &[u8::from(first)]].concat());
    // What is a frame already stays one.
    let framed = |message: &Vec<u8>| {
        if message.first() == Some(&b'd') {
            message.clone()
        } else {
            frame(message)
        }
    };
    let inner: Vec<u8> = messages.iter().flat_map(framed).collect();
    [start, inner, frame(b"E")].concat()
}

pub(super) fn abort(top: u32, aborted: u32) -> Vec<u8> {
    frame(&[b"A", &top.to_be_bytes()[..], &aborted.to_be_bytes()].concat())
}

pub(super) fn stream_commit(top: u32, at: u64) -> Vec<u8> {
    frame(
        &[
            &[b"c", &top.to_be_bytes()[..], &[0]].concat(),
            commit_fields(at).as_slice(),
        ]
        .concat(),
    )
}

pub(super) fn begin(xid: u32, at: u64) -> Vec<u8> {
    frame(&[b"B", &at.to_be_bytes()[..], &0_u64.to_be_bytes(), &xid.to_be_bytes()].concat())
}

pub(super) fn commit(at: u64) -> Vec<u8> {
    frame(&[b"C\0", commit_fields(at).as_slice()].concat())
}

fn commit_fields(at: u64) -> Vec<u8> {
    [at.to_be_bytes(), (at + 1).to_be_bytes(), 0_u64.to_be_bytes()].concat()
}

/// A message without the id that it carries inside of a block, in its frame.
pub(super) fn change(message: Vec<u8>) -> Vec<u8> {
    frame(&[&message[..1], &message[5..]].concat())
}

/// A table with one column of text.
pub(super) fn relation(xid: u32, oid: u32, column: &str) -> Vec<u8> {
    let head = [
        b"R",
        &xid.to_be_bytes()[..],
        &oid.to_be_bytes(),
        b"public\0t\0d",
        &1_u16.to_be_bytes(),
    ]
    .concat();
    [
        &head,
        &b"\x01"[..],
        column.as_bytes(),
        b"\0",
        &25_u32.to_be_bytes(),
        &u32::MAX.to_be_bytes(),
    ]
    .concat()
}

pub(super) fn insert(xid: u32, oid: u32, value: &str) -> Vec<u8> {
    let head = [
        b"I",
        &xid.to_be_bytes()[..],
        &oid.to_be_bytes(),
        b"N",
        &1_u16.to_be_bytes(),
    ]
    .concat();
    [&head, &b"t"[..], &(value.len() as u32).to_be_bytes(), value.as_bytes()].concat()
}

pub(super) fn type_name(xid: u32) -> Vec<u8> {
    [b"Y", &xid.to_be_bytes()[..], &99_u32.to_be_bytes(), b"public\0mood\0"].concat()
}

pub(super) fn begin_prepare(xid: u32, at: u64) -> Vec<u8> {
    frame(&[b"b", &prepare_fields(xid, at)[..]].concat())
}

pub(super) fn prepare(xid: u32, at: u64) -> Vec<u8> {
    frame(&[b"P\0", &prepare_fields(xid, at)[..]].concat())
}

pub(super) fn stream_prepare(xid: u32, at: u64) -> Vec<u8> {
    frame(&[b"p\0", &prepare_fields(xid, at)[..]].concat())
}

pub(super) fn commit_prepared(xid: u32, at: u64) -> Vec<u8> {
    frame(&[b"K\0", &prepare_fields(xid, at)[..]].concat())
}

pub(super) fn rollback_prepared(xid: u32, prepared: u64, at: u64) -> Vec<u8> {
    let positions = [(prepared + 1).to_be_bytes(), at.to_be_bytes(), [0; 8], [0; 8]].concat();
    frame(&[b"r\0", &positions[..], &xid.to_be_bytes(), b"gid\0"].concat())
}

/// Position, end, time, id, global id.
fn prepare_fields(xid: u32, at: u64) -> Vec<u8> {
    [&commit_fields(at)[..], &xid.to_be_bytes(), b"gid\0"].concat()
}
