//! JSON lines on standard output. A reader that goes away (`| head`) ends the pipeline, not with an error.

mod output;

use super::json::Encoder;
use super::{Progress, Sink, SinkContext, SinkError, SinkFuture};
use crate::batch::{Delivery, Lsn};
use output::Output;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};

pub(super) struct StdoutSink {
    /// A write that was given up may still have it.
    output: Arc<Mutex<Output>>,
    encoder: Encoder,
    buffer: Vec<u8>,
    durable: u64,
}

impl StdoutSink {
    pub(super) fn new() -> Self {
        Self::with_output(output::standard())
    }

    fn with_output(output: Arc<Mutex<Output>>) -> Self {
        Self {
            output,
            encoder: Encoder::new(0),
            buffer: Vec::new(),
            durable: 0,
        }
    }

    async fn write_delivery(&mut self, delivery: &Delivery) -> Result<Progress, SinkError> {
        self.buffer.clear();
        let mut first = 0;
        for (transaction, rows) in delivery.transactions() {
            self.encoder.transaction(transaction);
            self.encoder.rows(&delivery.batch, rows, first, &mut self.buffer)?;
            first += rows.len();
        }
        let output = Arc::clone(&self.output);
        let buffer = std::mem::take(&mut self.buffer);
        let task = tokio::task::spawn_blocking(move || {
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            (output.write_lines(&buffer), buffer)
        });
        let (written, buffer) = task.await.map_err(|error| SinkError::Transient(error.into()))?;
        self.buffer = buffer;
        match written {
            Ok(()) => {
                self.durable = delivery.sequence;
                Ok(Progress::Durable(delivery.sequence))
            }
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(SinkError::ReaderGone),
            Err(error) => Err(SinkError::Transient(
                anyhow::Error::new(error).context("writing to standard output"),
            )),
        }
    }
}

impl Sink for StdoutSink {
    fn open<'a>(&'a mut self, context: &'a SinkContext) -> SinkFuture<'a, Option<Lsn>> {
        self.encoder = Encoder::new(context.system_identifier);
        Box::pin(async { Ok(None) })
    }

    fn write<'a>(&'a mut self, delivery: &'a Delivery) -> SinkFuture<'a, Progress> {
        Box::pin(self.write_delivery(delivery))
    }

    fn flush(&mut self) -> SinkFuture<'_, u64> {
        Box::pin(async { Ok(self.durable) })
    }

    fn close(&mut self) -> SinkFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Part;
    use crate::sink::testing::{Builder, context, orders, text};
    use std::io::{self, PipeReader, Read, Write};

    fn piped() -> (StdoutSink, PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        (StdoutSink::with_output(Output::new(Box::new(writer))), reader)
    }

    /// Takes so many bytes, then fails once, in turn; all of them behind the last failure.
    struct Failing {
        rooms: Vec<usize>,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Failing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = match self.rooms.first_mut() {
                None => bytes.len(),
                Some(0) => {
                    self.rooms.remove(0);
                    return Err(ErrorKind::WouldBlock.into());
                }
                Some(room) => {
                    let now = bytes.len().min(*room);
                    *room -= now;
                    now
                }
            };
            self.taken.lock().unwrap().extend_from_slice(&bytes[..room]);
            Ok(room)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What came out of it where each of these rooms was used up once.
    async fn written_with(rooms: &[usize]) -> String {
        let taken = Arc::default();
        let failing = Failing {
            rooms: rooms.to_vec(),
            taken: Arc::clone(&taken),
        };
        let mut sink = StdoutSink::with_output(Output::new(Box::new(failing)));
        sink.open(&context("out")).await.unwrap();
        for _ in rooms {
            let error = sink.write(&delivery()).await.unwrap_err();
            assert!(matches!(error, SinkError::Transient(_)), "{error}");
            // As the driver does.
            sink.open(&context("out")).await.unwrap();
        }
        assert_eq!(sink.write(&delivery()).await.unwrap(), Progress::Durable(5));
        drop(sink);
        String::from_utf8(taken.lock().unwrap().clone()).unwrap()
    }

    #[tokio::test]
    async fn behind_a_torn_line_the_next_begins_a_line_of_its_own() {
        let whole = written_with(&[]).await;
        let torn = &whole[..20];
        assert_eq!(written_with(&[20]).await, format!("{torn}\n{whole}"));
        // It fails at the line break, too, and in the midst of what comes behind that.
        assert_eq!(written_with(&[20, 0]).await, format!("{torn}\n{whole}"));
        assert_eq!(written_with(&[20, 21]).await, format!("{torn}\n{torn}\n{whole}"));
        // Nothing is torn where nothing went out, or a whole line.
        assert_eq!(written_with(&[0]).await, whole);
        let (line, _) = whole.split_once('\n').unwrap();
        assert_eq!(written_with(&[line.len() + 1]).await, format!("{line}\n{whole}"));
    }

    fn delivery() -> Delivery {
        Builder::new()
            .transaction(1, Part::Whole)
            .insert(&orders(), &[text("1"), text("a"), text("2")])
            .insert(&orders(), &[text("2"), text("b"), text("2")])
            .delivery(5)
    }

    #[tokio::test]
    async fn lines_are_durable_once_written() {
        let (mut sink, mut reader) = piped();
        sink.open(&context("out")).await.unwrap();
        assert_eq!(sink.write(&delivery()).await.unwrap(), Progress::Durable(5));
        drop(sink);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("{\"id\":\"7301:1:0:0\",\"op\":\"insert\""));
        assert!(text.ends_with("}\n"));
    }

    #[tokio::test]
    async fn a_closed_pipe_is_a_clean_end() {
        let (mut sink, reader) = piped();
        drop(reader);
        let error = sink.write(&delivery()).await.unwrap_err();
        assert!(matches!(error, SinkError::ReaderGone));
    }
}
