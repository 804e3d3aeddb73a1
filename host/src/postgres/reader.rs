//! A session that reads: SQL for its rows, and `COPY ... TO STDOUT` in the very frames that the server sent.

use super::conninfo::Conninfo;
use super::error::{ConnectError, QueryError};
use super::message::{self, HEADER_BYTES, MAX_BODY_BYTES, tag};
use super::startup::{self, Purpose, Session};
use bytes::{Bytes, BytesMut};
use postgres_protocol::message::frontend;
use std::io;
use tokio::io::AsyncReadExt;

/// A buffer is read into until it is nearly full, and given away then: thousands of rows at a time.
const BUFFER_BYTES: usize = (512 << 10) + MIN_READ_BYTES;
/// The same where the bytes are to leave in pieces as long as they can be: just below the size from which on the allocator
/// gives memory back at once.
const LONG_BUFFER_BYTES: usize = (4 << 20) - (64 << 10);
/// With less room than this left it counts as full: a short read is a wasted one.
const MIN_READ_BYTES: usize = 64 << 10;

/// The values of a row as text.
pub type TextRow = Vec<Option<String>>;

/// A session for one task at a time. A call that fails or is given up half-way leaves it useless: it is to be dropped then.
pub struct Reader {
    session: Session,
}

impl Reader {
    /// Opens a session with the settings pinned that decide how values are written.
    pub async fn connect(conninfo: &Conninfo, application_name: &str) -> Result<Self, ConnectError> {
        let session = startup::open(conninfo, application_name, Purpose::Sql).await?;
        Ok(Self { session })
    }

    /// Runs the statements of a simple query to their end; all of their rows.
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<TextRow>, QueryError> {
        self.session.query(sql).await
    }

    /// Runs a simple query of which one statement is a `COPY ... TO STDOUT`. Returns, as soon as that begins, the rows of
    /// the statements before it and what it sends; the statements behind it run when all of that has been read.
    pub async fn copy_out(&mut self, sql: &str) -> Result<(Vec<TextRow>, Frames<'_>), QueryError> {
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out).map_err(|_| QueryError::protocol("a query holds a zero byte"))?;
        self.session.send(&out).await?;
        let mut rows = Vec::new();
        loop {
            let message = self.session.read().await?;
            match message.tag {
                tag::DATA_ROW => rows.push(message::data_row(&message.body)?),
                tag::COPY_OUT_RESPONSE => break,
                tag::ERROR_RESPONSE => return Err(message::server_error(&message.body)),
                tag::READY_FOR_QUERY => return Err(QueryError::protocol("no COPY was answered")),
                other => expect_passing(other)?,
            }
        }
        let session = &mut self.session;
        let frames = Frames {
            session,
            whole_bytes: 0,
            buffer_bytes: BUFFER_BYTES,
            is_over: false,
        };
        Ok((rows, frames))
    }
}

/// What a `COPY ... TO STDOUT` sends.
pub struct Frames<'r> {
    session: &'r mut Session,
    /// Whole CopyData frames at the head of the buffer.
    whole_bytes: usize,
    buffer_bytes: usize,
    is_over: bool,
}

impl Frames<'_> {
    /// The same in longer pieces, of megabytes: nobody looks at them on their way, and whoever sends them on needn't join
    /// them first.
    #[must_use]
    pub fn long(self) -> Self {
        Self {
            buffer_bytes: LONG_BUFFER_BYTES,
            ..self
        }
    }

    /// The next bytes: whole CopyData frames with their headers, at least one. `None` once the query has ended well. The
    /// bytes share one buffer: whoever keeps a part keeps all of it.
    pub async fn next(&mut self) -> Result<Option<Bytes>, QueryError> {
        while !self.is_over {
            let (other_follows, wanted_bytes) = self.scan()?;
            let is_full = self.whole_bytes > 0 && self.spare_bytes() < MIN_READ_BYTES;
            if is_full || (other_follows && self.whole_bytes > 0) {
                let whole = std::mem::take(&mut self.whole_bytes);
                return Ok(Some(self.session.buffer.split_to(whole).freeze()));
            }
            match other_follows {
                true => self.pass_over().await?,
                false => self.fill(wanted_bytes).await?,
            }
        }
        Ok(None)
    }

    /// Goes on through the headers. Whether a whole message of another kind than CopyData follows the whole frames, and
    /// how many bytes the message that is cut off has in all, where its header is there.
    fn scan(&mut self) -> Result<(bool, usize), QueryError> {
        let buffer = &self.session.buffer;
        loop {
            let rest = &buffer[self.whole_bytes..];
            match message::header(rest)? {
                None => return Ok((false, 0)),
                Some((_, length)) if rest.len() < length => return Ok((false, length)),
                Some((tag::COPY_DATA, length)) => self.whole_bytes += length,
                Some(_) => return Ok((true, 0)),
            }
        }
    }

    fn spare_bytes(&self) -> usize {
        self.session.buffer.capacity() - self.session.buffer.len()
    }

    /// The next message, which is there, and which is no CopyData.
    async fn pass_over(&mut self) -> Result<(), QueryError> {
        let message = message::read(&mut self.session.stream, &mut self.session.buffer, MAX_BODY_BYTES).await?;
        match message.tag {
            tag::COPY_DONE => {}
            tag::READY_FOR_QUERY => self.is_over = true,
            tag::ERROR_RESPONSE => return Err(message::server_error(&message.body)),
            other => expect_passing(other)?,
        }
        Ok(())
    }

    /// Reads once, with room for a read worth its while; a long frame grows the buffer once, to its own size.
    async fn fill(&mut self, wanted_bytes: usize) -> Result<(), QueryError> {
        let begun_bytes = self.session.buffer.len() - self.whole_bytes;
        let mut needed = wanted_bytes.saturating_sub(begun_bytes).max(HEADER_BYTES);
        if begun_bytes < MIN_READ_BYTES {
            needed = needed.max(MIN_READ_BYTES);
        }
        if self.spare_bytes() < needed {
            self.session.buffer.reserve(needed.max(self.buffer_bytes));
        }
        let read = self.session.stream.read_buf(&mut self.session.buffer).await;
        match read.map_err(|error| QueryError::lost(&error))? {
            0 => Err(QueryError::lost(&io::ErrorKind::UnexpectedEof.into())),
            _ => Ok(()),
        }
    }
}

/// Messages that may stand anywhere in an answer and say nothing here.
fn expect_passing(tag: u8) -> Result<(), QueryError> {
    match tag {
        tag::ROW_DESCRIPTION
        | tag::DATA_ROW
        | tag::COMMAND_COMPLETE
        | tag::EMPTY_QUERY_RESPONSE
        | tag::NOTICE_RESPONSE
        | tag::NOTIFICATION_RESPONSE
        | tag::PARAMETER_STATUS => Ok(()),
        other => Err(QueryError::protocol(format!(
            "unexpected message {other:#04x} in a COPY"
        ))),
    }
}
