//! JSON lines on standard output. A reader that goes away (`| head`) ends the pipeline, not with an error.

use super::json::Encoder;
use super::{Progress, Sink, SinkContext, SinkError, SinkFuture};
use crate::batch::{Delivery, Lsn};
use std::io::{self, ErrorKind, Write};

type Output = Box<dyn Write + Send>;

pub(super) struct StdoutSink {
    /// Away while a thread writes; lost with a write that was given up.
    output: Option<Output>,
    encoder: Encoder,
    buffer: Vec<u8>,
    durable: u64,
}

impl StdoutSink {
    pub(super) fn new() -> Self {
        Self::with_output(Box::new(io::stdout()))
    }

    fn with_output(output: Output) -> Self {
        Self {
            output: Some(output),
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
        let mut output = self.output.take().unwrap_or_else(|| Box::new(io::stdout()));
        let buffer = std::mem::take(&mut self.buffer);
        let task = tokio::task::spawn_blocking(move || {
            let written = output.write_all(&buffer).and_then(|()| output.flush());
            (written, output, buffer)
        });
        let (written, output, buffer) = task.await.map_err(|error| SinkError::Transient(error.into()))?;
        self.output = Some(output);
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
    use std::io::{PipeReader, Read};

    fn piped() -> (StdoutSink, PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        (StdoutSink::with_output(Box::new(writer)), reader)
    }

    fn delivery() -> Delivery {
        Builder::new()
            .transaction(1, Part::Whole)
            .insert(&orders(), &[text("1"), text("a"), text("2")])
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
