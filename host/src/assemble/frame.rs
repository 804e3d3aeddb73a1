//! A frame of the replication connection, as far as streamed transactions have to look into it.

use super::NOWHERE;
use crate::batch::Lsn;
use crate::decode::DecodeError;
use bytes::BufMut;

/// Tag and length.
pub(super) const HEADER: usize = 5;
/// Tag, start, end and time of XLogData.
const XLOG_HEADER: usize = 1 + 3 * 8;
/// Where the kind of a pgoutput message stands.
const KIND: usize = HEADER + XLOG_HEADER;
const XID: usize = 4;

/// One whole frame.
pub(super) struct Frame<'a>(&'a [u8]);

impl<'a> Frame<'a> {
    /// The frame that begins at `at`; `None` where there is no header any more.
    #[inline]
    pub(super) fn at(bytes: &'a [u8], at: usize) -> Result<Option<Self>, DecodeError> {
        let Some(header) = bytes.get(at..at + HEADER) else {
            return Ok(None);
        };
        let len = 1 + length(header);
        match bytes.get(at..at + len) {
            Some(frame) if len >= HEADER => Ok(Some(Self(frame))),
            _ => Err(truncated(NOWHERE)),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The kind of the pgoutput message; `None` for a keepalive, and for what the decoder will refuse.
    #[inline]
    pub(super) fn message(&self) -> Option<u8> {
        let is_data = self.0[0] == b'd' && self.0.get(HEADER) == Some(&b'w');
        self.0.get(KIND).copied().filter(|_| is_data)
    }

    /// Where in the WAL it stands, for errors.
    pub(super) fn lsn(&self) -> Lsn {
        let start = self.0.get(HEADER + 1..).and_then(<[u8]>::first_chunk);
        start.map_or(NOWHERE, |start| Lsn(u64::from_be_bytes(*start)))
    }

    pub(super) fn u8_at(&self, at: usize) -> Result<u8, DecodeError> {
        self.field::<1>(at).map(|[byte]| byte)
    }

    /// `at` counts from behind the message's kind.
    #[inline]
    pub(super) fn u32_at(&self, at: usize) -> Result<u32, DecodeError> {
        self.field(at).map(u32::from_be_bytes)
    }

    pub(super) fn u64_at(&self, at: usize) -> Result<u64, DecodeError> {
        self.field(at).map(u64::from_be_bytes)
    }

    #[inline]
    fn field<const N: usize>(&self, at: usize) -> Result<[u8; N], DecodeError> {
        let field = self.0.get(KIND + 1 + at..).and_then(<[u8]>::first_chunk);
        field.copied().ok_or_else(|| truncated(self.lsn()))
    }

    /// The frame without the transaction id behind the message's kind: its head with the new length, and what follows
    /// the id.
    #[inline]
    pub(super) fn without_xid(&self) -> Result<([u8; KIND + 1], &'a [u8]), DecodeError> {
        let head = self.0.first_chunk::<{ KIND + 1 }>();
        let (Some(head), Some(rest)) = (head, self.0.get(KIND + 1 + XID..)) else {
            return Err(truncated(self.lsn()));
        };
        let mut head = *head;
        let len = (self.0.len() - 1 - XID) as u32;
        head[1..HEADER].copy_from_slice(&len.to_be_bytes());
        Ok((head, rest))
    }
}

/// What the length field of a header says; the tag isn't part of it.
pub(super) fn length(header: &[u8]) -> usize {
    u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize
}

fn truncated(lsn: Lsn) -> DecodeError {
    DecodeError::Truncated {
        lsn,
        expected: "the end of a frame",
    }
}

/// The Begin message that an unstreamed transaction would have had.
pub(super) fn begin(lsn: Lsn, commit_lsn: u64, time: u64, xid: u32) -> Vec<u8> {
    let mut frame = head(lsn, b'B', 8 + 8 + 4);
    frame.put_u64(commit_lsn);
    frame.put_u64(time);
    frame.put_u32(xid);
    frame
}

pub(super) fn commit(lsn: Lsn, flags: u8, commit_lsn: u64, end_lsn: u64, time: u64) -> Vec<u8> {
    let mut frame = head(lsn, b'C', 1 + 8 + 8 + 8);
    frame.put_u8(flags);
    frame.put_u64(commit_lsn);
    frame.put_u64(end_lsn);
    frame.put_u64(time);
    frame
}

fn head(lsn: Lsn, kind: u8, body: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(KIND + 1 + body);
    frame.put_u8(b'd');
    frame.put_u32((4 + XLOG_HEADER + 1 + body) as u32);
    frame.put_u8(b'w');
    frame.put_u64(lsn.0);
    frame.put_u64(lsn.0);
    frame.put_u64(0);
    frame.put_u8(kind);
    frame
}
