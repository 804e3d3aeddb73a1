//! Backend messages as they stand on the wire: one tag byte, four bytes of length (which count themselves), a body.

use super::error::QueryError;
use bytes::{Buf, Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Tag and length.
pub(crate) const HEADER_BYTES: usize = 5;
/// The length counts its own four bytes.
const LENGTH_BYTES: usize = 4;
/// A server allocates at most 1 GiB for a message, so that nothing longer is one.
pub(crate) const MAX_BODY_BYTES: usize = 1 << 30;
/// Before the server has proved who it is it gets no more memory than libpq grants.
pub(crate) const MAX_STARTUP_BODY_BYTES: usize = 30_000;

/// Tags of the backend messages that are looked at.
pub(crate) mod tag {
    pub(crate) const AUTHENTICATION: u8 = b'R';
    pub(crate) const BACKEND_KEY_DATA: u8 = b'K';
    pub(crate) const COMMAND_COMPLETE: u8 = b'C';
    pub(crate) const COPY_BOTH_RESPONSE: u8 = b'W';
    pub(crate) const COPY_DATA: u8 = b'd';
    pub(crate) const COPY_OUT_RESPONSE: u8 = b'H';
    pub(crate) const COPY_DONE: u8 = b'c';
    pub(crate) const DATA_ROW: u8 = b'D';
    pub(crate) const EMPTY_QUERY_RESPONSE: u8 = b'I';
    pub(crate) const ERROR_RESPONSE: u8 = b'E';
    pub(crate) const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
    pub(crate) const NOTICE_RESPONSE: u8 = b'N';
    pub(crate) const NOTIFICATION_RESPONSE: u8 = b'A';
    pub(crate) const PARAMETER_STATUS: u8 = b'S';
    pub(crate) const READY_FOR_QUERY: u8 = b'Z';
    pub(crate) const ROW_DESCRIPTION: u8 = b'T';
}

/// A whole message.
pub(crate) struct Message {
    pub(crate) tag: u8,
    pub(crate) body: Bytes,
    /// Header and body as received.
    pub(crate) frame: Bytes,
}

/// The tag and whole length, header included, of the message that begins here; `None` while the header is cut off.
pub(crate) fn header(bytes: &[u8]) -> Result<Option<(u8, usize)>, QueryError> {
    let Some(&[tag, a, b, c, d]) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    match length.checked_sub(LENGTH_BYTES) {
        Some(body) if body <= MAX_BODY_BYTES => Ok(Some((tag, HEADER_BYTES + body))),
        _ => Err(QueryError::protocol(format!(
            "message {tag:#04x} claims {length} bytes"
        ))),
    }
}

/// The next message. Not cancel-safe in the middle of an exchange, but loses no bytes.
pub(crate) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    max_body_bytes: usize,
) -> Result<Message, QueryError> {
    loop {
        let needed = match header(buffer)? {
            Some((tag, length)) if length - HEADER_BYTES > max_body_bytes => {
                return Err(QueryError::protocol(format!(
                    "message {tag:#04x} is too long: {length} bytes"
                )));
            }
            Some((tag, length)) if buffer.len() >= length => {
                let frame = buffer.split_to(length).freeze();
                return Ok(Message {
                    tag,
                    body: frame.slice(HEADER_BYTES..),
                    frame,
                });
            }
            Some((_, length)) => length - buffer.len(),
            None => HEADER_BYTES,
        };
        buffer.reserve(needed);
        let read = stream
            .read_buf(buffer)
            .await
            .map_err(|error| QueryError::lost(&error))?;
        if read == 0 {
            return Err(QueryError::lost(&io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// The fields of an ErrorResponse. Text that isn't UTF-8 (an error before the encoding is agreed) is replaced.
pub(crate) fn server_error(body: &[u8]) -> QueryError {
    let mut error = QueryError::protocol("the server reported an error without a message");
    for field in body.split(|byte| *byte == 0) {
        let Some((code, text)) = field.split_first() else { break };
        let text = String::from_utf8_lossy(text).into_owned();
        match code {
            b'C' => error.sqlstate = text,
            b'M' => error.message = text,
            b'D' => error.detail = Some(text),
            b'H' => error.hint = Some(text),
            b'W' => error.context = Some(text),
            _ => {}
        }
    }
    error
}

/// The values of a DataRow.
pub(crate) fn data_row(body: &Bytes) -> Result<Vec<Option<String>>, QueryError> {
    let malformed = || QueryError::protocol("a row of the answer is malformed");
    let mut rest = body.clone();
    let columns = rest.try_get_u16().map_err(|_| malformed())?;
    (0..columns)
        .map(|_| {
            let length = rest.try_get_i32().map_err(|_| malformed())?;
            let Ok(length) = usize::try_from(length) else {
                return Ok(None);
            };
            if rest.len() < length {
                return Err(malformed());
            }
            String::from_utf8(rest.split_to(length).to_vec())
                .map(Some)
                .map_err(|_| malformed())
        })
        .collect()
}

/// Name and value of a ParameterStatus.
pub(crate) fn parameter(body: &[u8]) -> Option<(String, String)> {
    let mut parts = body.split(|byte| *byte == 0);
    let name = std::str::from_utf8(parts.next()?).ok()?;
    let value = std::str::from_utf8(parts.next()?).ok()?;
    Some((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_from_outside_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = header(&bytes);
            let _ = server_error(&bytes);
            let _ = data_row(&Bytes::from(bytes.clone()));
            let _ = parameter(&bytes);
        }
    }

    #[test]
    fn x7_a_length_below_its_own_size_or_beyond_the_limit_is_refused() {
        assert!(header(b"d\0\0\0\x03").is_err());
        assert!(header(b"d\x7f\0\0\0").is_err());
        assert_eq!(header(b"d\0\0\0\x04").unwrap(), Some((b'd', 5)));
        assert_eq!(header(b"d\0\0\0").unwrap(), None);
    }
}
