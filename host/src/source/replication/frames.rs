//! Cutting whole frames out of what was read.

use super::error::{ReceiveError, TransientCause};
use crate::batch::Lsn;
use crate::postgres::message::{self, HEADER_BYTES, tag};

/// XLogData and keepalive, the two kinds of CopyData; both begin with tag and a position.
const XLOG_DATA: u8 = b'w';
const KEEPALIVE: u8 = b'k';
/// Tag, wal end, time, reply requested.
const KEEPALIVE_BYTES: usize = 1 + 8 + 8 + 1;

/// What the frames at the head of a buffer are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// Bytes of whole CopyData frames.
    pub(super) data_bytes: usize,
    /// Bytes of the one whole frame of another kind that follows them, to be passed over.
    pub(super) skip_bytes: usize,
    /// Bytes that the frame cut off at the end has in all, where its header is there.
    pub(super) wanted_bytes: usize,
    /// The furthest position that any frame told.
    pub(super) received: Lsn,
    pub(super) reply_requested: bool,
}

/// Goes through the headers. Ends at the first frame that is cut off, of another kind than CopyData, or larger than
/// `max_bytes`; the end of the stream and what is too large are errors only where they come first, so that the data
/// before them is handed out.
pub(super) fn scan(bytes: &[u8], max_bytes: usize) -> Result<Scan, ReceiveError> {
    let mut scan = Scan::default();
    loop {
        let rest = &bytes[scan.data_bytes..];
        let header = message::header(rest).map_err(|error| ReceiveError::Protocol(error.message))?;
        let Some((tag, length)) = header else { return Ok(scan) };
        if length > max_bytes && tag == tag::COPY_DATA {
            let known = rest.get(HEADER_BYTES..).filter(|_| scan.data_bytes == 0);
            return known
                .and_then(|body| too_large(body, length, max_bytes))
                .map_or(Ok(scan), Err);
        }
        let Some(body) = rest.get(HEADER_BYTES..length) else {
            scan.wanted_bytes = length;
            return Ok(scan);
        };
        if tag == tag::COPY_DATA {
            scan.look_into(body)?;
            scan.data_bytes += length;
            continue;
        }
        if scan.data_bytes == 0 {
            end_of_stream(tag, body)?;
            scan.skip_bytes = length;
        }
        return Ok(scan);
    }
}

impl Scan {
    fn look_into(&mut self, body: &[u8]) -> Result<(), ReceiveError> {
        let position = body
            .get(1..)
            .and_then(<[u8]>::first_chunk::<8>)
            .map(|bytes| Lsn(u64::from_be_bytes(*bytes)));
        match (body.first(), position) {
            (Some(&XLOG_DATA), Some(start)) => self.received = self.received.max(start),
            (Some(&KEEPALIVE), Some(wal_end)) if body.len() == KEEPALIVE_BYTES => {
                self.received = self.received.max(wal_end);
                self.reply_requested |= body.last() == Some(&1);
            }
            _ => {
                return Err(ReceiveError::Protocol(
                    "a CopyData frame is neither XLogData nor keepalive".into(),
                ));
            }
        }
        Ok(())
    }
}

/// Says of which table it is by the first bytes of its body; `None` where even those aren't there yet.
fn too_large(body: &[u8], bytes: usize, max_bytes: usize) -> Option<ReceiveError> {
    // XLogData: its tag, two positions, a time. Then the change: its tag, in a streamed transaction an id, the table's
    // OID, and which image follows.
    let (head, change) = body.split_at_checked(1 + 8 + 8 + 8)?;
    let lsn = Lsn(u64::from_be_bytes(*head[1..].first_chunk()?));
    let (kind, fields) = change.split_first()?;
    let fields: &[u8; 9] = fields.first_chunk()?;
    let is_image = |byte: u8| matches!(byte, b'N' | b'K' | b'O');
    let oid = |at: usize| fields[at..].first_chunk().map(|oid| u32::from_be_bytes(*oid));
    let table = match kind {
        b'I' | b'U' | b'D' if is_image(fields[4]) => oid(0),
        b'I' | b'U' | b'D' if is_image(fields[8]) => oid(4),
        _ => None,
    };
    Some(ReceiveError::TooLarge {
        table,
        bytes,
        max_bytes,
        lsn,
    })
}

/// `Ok` for what may come between the data at any time.
fn end_of_stream(tag: u8, body: &[u8]) -> Result<(), ReceiveError> {
    match tag {
        tag::PARAMETER_STATUS | tag::NOTIFICATION_RESPONSE => Ok(()),
        tag::NOTICE_RESPONSE => ReceiveError::notice(message::server_error(body)),
        tag::ERROR_RESPONSE => Err(ReceiveError::server(message::server_error(body))),
        tag::COPY_DONE | tag::COMMAND_COMPLETE | tag::READY_FOR_QUERY => {
            Err(ReceiveError::Transient(TransientCause::Ended))
        }
        other => Err(ReceiveError::Protocol(format!("unexpected message {other:#04x}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROOMY: usize = 1 << 30;

    fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[tag][..], &length, body].concat()
    }

    fn data(start: u64, payload: &[u8]) -> Vec<u8> {
        frame(
            b'd',
            &[&b"w"[..], &start.to_be_bytes(), &start.to_be_bytes(), &[0; 8], payload].concat(),
        )
    }

    fn keepalive(wal_end: u64, reply: u8) -> Vec<u8> {
        frame(b'd', &[&b"k"[..], &wal_end.to_be_bytes(), &[0; 8], &[reply]].concat())
    }

    proptest! {
        #[test]
        fn bytes_from_outside_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = scan(&bytes, ROOMY);
        }

        #[test]
        fn however_the_stream_is_cut_only_whole_frames_are_counted(cut in 0_usize..100) {
            let frames = [data(7, b"row"), keepalive(9, 1), data(8, b"another row")];
            let all = frames.concat();
            let found = scan(&all[..cut.min(all.len())], ROOMY).unwrap();
            let whole = [0, frames[0].len(), frames[0].len() + frames[1].len(), all.len()];
            let expected = whole.iter().rev().find(|length| **length <= cut).unwrap();
            prop_assert_eq!(found.data_bytes, *expected);
        }
    }

    #[test]
    fn positions_and_the_wish_for_a_reply_are_noticed() {
        let found = scan(&[data(7, b"row"), keepalive(9, 1), data(8, b"")].concat(), ROOMY).unwrap();
        assert_eq!(found.received, Lsn(9));
        assert!(found.reply_requested);
    }

    #[test]
    fn a_notice_is_passed_over_and_an_error_waits_for_the_data_before_it() {
        let row = data(7, b"row");
        let error = frame(b'E', b"C57P01\0Mbye\0\0");
        let found = scan(&[row.clone(), error.clone()].concat(), ROOMY).unwrap();
        assert_eq!((found.data_bytes, found.skip_bytes), (row.len(), 0));
        assert_eq!(scan(&error, ROOMY).unwrap_err().sqlstate(), Some("57P01"));
        assert!(scan(&error, ROOMY).unwrap_err().is_transient());
        let notice = frame(b'N', b"Mhello\0\0");
        assert_eq!(scan(&notice, ROOMY).unwrap().skip_bytes, notice.len());
    }

    #[test]
    fn an_answer_that_no_walsender_gives_is_refused() {
        assert!(matches!(
            scan(&frame(b'd', b"x"), ROOMY),
            Err(ReceiveError::Protocol(_))
        ));
        assert!(matches!(
            scan(&frame(b'd', b"w"), ROOMY),
            Err(ReceiveError::Protocol(_))
        ));
        assert!(matches!(scan(&frame(b'T', b""), ROOMY), Err(ReceiveError::Protocol(_))));
    }

    #[test]
    fn what_is_too_large_is_named_before_it_is_there() {
        let change = [&b"I"[..], &7_u32.to_be_bytes(), &b"N\0\x01t"[..], &[b'x'; 400]].concat();
        let row = data(9, &change);
        let small = data(8, b"row");
        // First goes what stands before it.
        let scan = |bytes: &[u8]| scan(bytes, 300);
        let both = [small.clone(), row.clone()].concat();
        assert_eq!(scan(&both).unwrap().data_bytes, small.len());
        // Not even its table is known yet: no room is made for it.
        assert_eq!(scan(&row[..30]).unwrap(), Scan::default());
        for there in [60, row.len()] {
            let error = scan(&row[..there]).unwrap_err();
            let ReceiveError::TooLarge { table, bytes, lsn, .. } = error else {
                panic!("{error}")
            };
            assert_eq!((table, bytes, lsn), (Some(7), row.len(), Lsn(9)));
        }
        let streamed = [
            &b"I"[..],
            &99_u32.to_be_bytes(),
            &7_u32.to_be_bytes(),
            &b"N"[..],
            &[b'x'; 400],
        ]
        .concat();
        let error = scan(&data(9, &streamed)).unwrap_err();
        assert!(
            matches!(error, ReceiveError::TooLarge { table: Some(7), .. }),
            "{error}"
        );
    }

    #[test]
    fn changes_without_their_publication_end_the_stream() {
        let error = frame(b'E', b"C42704\0Mpublication \"p\" does not exist\0\0");
        assert!(matches!(scan(&error, ROOMY), Err(ReceiveError::Unpublished(_))));
        let warning = frame(b'N', b"C55000\0Mskipped loading publication \"p\"\0\0");
        assert!(matches!(scan(&warning, ROOMY), Err(ReceiveError::Unpublished(_))));
    }
}
