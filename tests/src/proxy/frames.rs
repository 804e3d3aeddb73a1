//! Where the messages of a server begin and end in the bytes that a proxy reads, however they are cut.

/// The type and the length of a message.
const HEAD: usize = 5;
/// Of XLogData: its own type, its position, the server's and its time.
const XLOG_HEAD: usize = 25;
const COPY_DATA: u8 = b'd';
const COMMAND_COMPLETE: u8 = b'C';

/// A place in the bytes that were fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Inside of a CopyData message, behind its head.
    Inside,
    /// The type of a message of pgoutput.
    Message(u8),
    /// The first byte of the answer to a COMMIT.
    Committed,
}

/// Follows one direction of one connection, from its first byte on.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// As much of the present message as its kind needs, from its first byte on.
    head: Vec<u8>,
    /// Bytes of the present message that are yet to come, once its length is known.
    left: usize,
    /// Whether the length is known.
    is_known: bool,
}

impl Frames {
    /// Tells the places in `bytes`, each with its offset. A `Committed` is told where its tag ends, for only then it is known.
    pub(super) fn feed(&mut self, bytes: &[u8], mut place: impl FnMut(usize, Place)) {
        let mut at = 0;
        while at < bytes.len() {
            if self.is_known && self.head.len() > HEAD + XLOG_HEAD {
                // Nothing more of this message is looked at.
                let skipped = self.left.min(bytes.len() - at);
                at += skipped;
                self.took(skipped);
                continue;
            }
            self.head.push(bytes[at]);
            if self.is_known {
                self.looked_at(at, &mut place);
                self.took(1);
            } else if let [_, a, b, c, d] = self.head[..] {
                self.is_known = true;
                self.left = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(4);
                self.took(0);
            }
            at += 1;
        }
    }

    fn looked_at(&self, at: usize, place: &mut impl FnMut(usize, Place)) {
        let (kind, body) = (self.head[0], &self.head[HEAD..]);
        match (kind, body.len()) {
            (COPY_DATA, 10) => place(at, Place::Inside),
            (COPY_DATA, len) if len == XLOG_HEAD + 1 && body[0] == b'w' => place(at, Place::Message(body[XLOG_HEAD])),
            (COMMAND_COMPLETE, 7) if body == b"COMMIT\0" => place(at, Place::Committed),
            _ => {}
        }
    }

    fn took(&mut self, len: usize) {
        self.left -= len;
        if self.left == 0 {
            self.head.clear();
            self.is_known = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(body.len() + 4).unwrap();
        [&[kind][..], &len.to_be_bytes(), body].concat()
    }

    #[test]
    fn places_are_the_same_however_the_bytes_are_cut() {
        let mut row = vec![b'w'];
        row.extend([7; 24]);
        row.extend(b"Iabcdef");
        let stream = [
            message(b'Z', b"I"),
            message(b'd', &row),
            message(b'n', b""),
            message(b'C', b"COMMIT\0"),
            message(b'd', b"k12345678901234567"),
        ]
        .concat();
        let places = |size: usize| {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for (chunk, bytes) in stream.chunks(size).enumerate() {
                frames.feed(bytes, |at, place| found.push((chunk * size + at, place)));
            }
            found
        };
        let whole = places(stream.len());
        let row_at = 6;
        let expected = [
            (row_at + 14, Place::Inside),
            (row_at + 30, Place::Message(b'I')),
            (row_at + 5 + row.len() + 5 + 11, Place::Committed),
            (row_at + 5 + row.len() + 5 + 12 + 14, Place::Inside),
        ];
        assert_eq!(whole, expected);
        for size in 1..stream.len() {
            assert_eq!(places(size), whole, "cut every {size} bytes");
        }
    }
}
