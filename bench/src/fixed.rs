//! A stream of the same bytes on every machine, made without a server, for counting instructions and for
//! micro-benchmarks: a transaction of inserts, one of updates and one of deletes of twelve columns.

use crate::binary_form;
use crate::rows::{COLUMNS, ROWS, UNREAD, relation, values};
use bytes::Bytes;
use rowmill::batch::Batch;
use rowmill::decode::{DecodeError, Decoder};

const RELATION: u32 = 16_384;

/// The stream as the walsender would send it: frames of CopyData with XLogData.
pub fn stream() -> Bytes {
    stream_of(Frames::new(COLUMNS.len()))
}

/// The same with its values in binary form.
pub fn stream_binary() -> Bytes {
    stream_of(Frames {
        binary: true,
        ..Frames::new(COLUMNS.len())
    })
}

fn stream_of(mut frames: Frames) -> Bytes {
    frames.relation();
    frames.transaction(1, |frames| {
        (0..ROWS).for_each(|row| frames.change(b'I', b'N', &values(row)));
    });
    frames.transaction(2, |frames| {
        (0..ROWS / 2).for_each(|row| frames.change(b'U', b'N', &values(row)));
    });
    frames.transaction(3, |frames| {
        for row in 0..ROWS / 4 {
            let mut key: [String; 12] = Default::default();
            key[0].clone_from(&values(row)[0]);
            frames.change(b'D', b'K', &key);
        }
    });
    frames.bytes.into()
}

/// A transaction of inserts with so many columns; those beyond the twelve are texts.
pub fn inserts(columns: usize) -> Bytes {
    let mut frames = Frames::new(columns);
    frames.relation();
    frames.transaction(1, |frames| {
        (0..ROWS).for_each(|row| frames.change(b'I', b'N', &values(row)));
    });
    frames.bytes.into()
}

/// The same, decoded.
pub fn batch(columns: usize) -> Result<Batch, DecodeError> {
    Decoder::new([]).decode(inserts(columns))
}

/// The same rows as `COPY ... TO STDOUT` sends them: a frame for each line.
pub fn copy_frames() -> Bytes {
    let mut frames = Vec::new();
    for row in 0..ROWS {
        let line = values(row).join("\t") + "\n";
        frames.push(b'd');
        frames.extend_from_slice(&(4 + line.len() as u32).to_be_bytes());
        frames.extend_from_slice(line.as_bytes());
    }
    frames.into()
}

struct Frames {
    bytes: Vec<u8>,
    lsn: u64,
    columns: usize,
    binary: bool,
}

impl Frames {
    fn new(columns: usize) -> Self {
        Self {
            bytes: Vec::new(),
            lsn: 0x0100_0000,
            columns,
            binary: false,
        }
    }

    /// A CopyData frame with one message of pgoutput.
    fn message(&mut self, message: &[u8]) {
        self.lsn += 64;
        let length = 4 + 1 + 24 + message.len();
        self.bytes.push(b'd');
        self.bytes.extend_from_slice(&(length as u32).to_be_bytes());
        self.bytes.push(b'w');
        for field in [self.lsn, self.lsn, 0] {
            self.bytes.extend_from_slice(&field.to_be_bytes());
        }
        self.bytes.extend_from_slice(message);
    }

    fn relation(&mut self) {
        let mut message = vec![b'R'];
        message.extend_from_slice(&RELATION.to_be_bytes());
        message.extend_from_slice(b"public\0orders\0d");
        message.extend_from_slice(&(self.columns as u16).to_be_bytes());
        for (at, column) in relation(self.columns).columns.iter().enumerate() {
            message.push(u8::from(at == 0));
            message.extend_from_slice(column.name.as_bytes());
            message.push(0);
            message.extend_from_slice(&column.type_oid.to_be_bytes());
            message.extend_from_slice(&(-1_i32).to_be_bytes());
        }
        self.message(&message);
    }

    fn transaction(&mut self, xid: u32, changes: impl FnOnce(&mut Self)) {
        // Where the commit lies is told before it is known; the decoder takes it as it comes.
        let commit = self.lsn + 0x0010_0000;
        let mut begin = vec![b'B'];
        begin.extend_from_slice(&commit.to_be_bytes());
        begin.extend_from_slice(&0_i64.to_be_bytes());
        begin.extend_from_slice(&xid.to_be_bytes());
        self.message(&begin);
        changes(self);
        self.lsn = commit;
        let mut end = vec![b'C', 0];
        end.extend_from_slice(&commit.to_be_bytes());
        end.extend_from_slice(&(commit + 8).to_be_bytes());
        end.extend_from_slice(&0_i64.to_be_bytes());
        self.message(&end);
    }

    fn change(&mut self, tag: u8, kind: u8, values: &[String; 12]) {
        let mut message = vec![tag];
        message.extend_from_slice(&RELATION.to_be_bytes());
        message.push(kind);
        message.extend_from_slice(&(self.columns as u16).to_be_bytes());
        for at in 0..self.columns {
            if kind == b'K' && at > 0 {
                message.push(b'n');
                continue;
            }
            let value = values.get(at).map_or(UNREAD, String::as_str);
            let (form, value) = match self.binary {
                true => (b'b', binary_form::value(at, value)),
                false => (b't', value.as_bytes().to_vec()),
            };
            message.push(form);
            message.extend_from_slice(&(value.len() as u32).to_be_bytes());
            message.extend_from_slice(&value);
        }
        self.message(&message);
    }
}
