//! A large buffer before a file; the file is only touched on a blocking thread.

use super::on_thread;
use crate::sink::SinkError;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;

/// Bytes gathered before they go to the file: large enough that a system call costs nothing per row.
const BUFFER_BYTES: usize = 1024 * 1024;

pub(super) struct Writer {
    file: Arc<File>,
    buffer: Vec<u8>,
    /// Bytes of the file, without the buffer.
    written: u64,
}

impl Writer {
    /// Goes on behind `length` bytes of `file`, where its cursor stands.
    pub(super) fn new(file: File, length: u64) -> Self {
        Self {
            file: Arc::new(file),
            buffer: Vec::new(),
            written: length,
        }
    }

    /// What is to be appended goes here; [`Self::spill`] is to be called now and then.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// The file's length with what is in the buffer.
    pub(super) fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Writes the buffer once it is large.
    pub(super) async fn spill(&mut self) -> Result<(), SinkError> {
        if self.buffer.len() >= BUFFER_BYTES {
            self.write(false).await?;
        }
        Ok(())
    }

    /// Writes the buffer and makes the file durable.
    pub(super) async fn sync(&mut self) -> Result<(), SinkError> {
        self.write(true).await
    }

    async fn write(&mut self, sync: bool) -> Result<(), SinkError> {
        let file = Arc::clone(&self.file);
        let mut buffer = std::mem::take(&mut self.buffer);
        let length = self.written + buffer.len() as u64;
        self.buffer = on_thread(move || {
            let written = (&*file).write_all(&buffer);
            let synced = written.and_then(|()| if sync { file.sync_data() } else { Ok(()) });
            synced.map_err(|error| SinkError::Transient(anyhow::Error::new(error).context("writing the file")))?;
            buffer.clear();
            // One huge transaction must not keep its buffer for ever.
            buffer.shrink_to(2 * BUFFER_BYTES);
            Ok(buffer)
        })
        .await?;
        self.written = length;
        Ok(())
    }

    /// Goes on with another, empty file. The buffer is empty.
    pub(super) fn replace(&mut self, file: File) {
        self.file = Arc::new(file);
        self.written = 0;
    }
}
