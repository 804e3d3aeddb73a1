//! JSON lines in files, exactly once for readers that stop at the manifest.
//!
//! ```text
//!   orders.jsonl          |=====================|            full: rotated behind a commit
//!   orders.000001.jsonl   |==========|·····               · not covered: may be cut off again
//!   orders.jsonl.manifest  position 0/16B3748, orders.jsonl 268435712, orders.000001.jsonl 10240
//! ```
//!
//! The manifest names each file with the length up to which it holds whole, durable transactions, and the position
//! that these reach. It is replaced atomically, and only after the data's fsync: so what it says is always true.
//! Opening cuts what the current file has beyond it, a torn line as well as a transaction that hasn't ended. It follows
//! each new file before that gets its first byte: a file that it doesn't have is none of ours, and is refused.
//!
//! Files are never renamed or removed. A transaction larger than `rotate` makes a larger file: they are only begun at
//! commits.

mod folder;
mod manifest;
mod writer;

use super::json::Encoder;
use super::{Progress, Sink, SinkContext, SinkError, SinkFuture};
use crate::batch::{Delivery, Lsn, Origin};
use crate::config;
use folder::Folder;
use manifest::Manifest;
use writer::Writer;

pub(super) struct FileSink {
    folder: Folder,
    rotate_bytes: u64,
    session: Option<Session>,
    durable: u64,
}

/// What there is between open and the first failure.
struct Session {
    writer: Writer,
    encoder: Encoder,
    /// What the next manifest will say: always at the end of a transaction.
    manifest: Manifest,
    /// Whether it says more than the one on disk.
    dirty: bool,
    /// The last delivery of which nothing belongs to a transaction that hasn't ended.
    complete: u64,
    written: u64,
    /// Whether the last transaction hasn't ended.
    inside: bool,
}

/// Whether the files could be opened; looks, and changes nothing.
pub(super) async fn check(config: &config::FileSink, context: &SinkContext) -> Result<(), SinkError> {
    let folder = Folder::new(&config.path);
    let expected = Manifest::new(context, &folder);
    on_thread(move || folder.check(&expected)).await
}

/// The command that lets the manifest forget its position; `None` where it has none, or is another sink's. What is in
/// the files stays.
pub(super) async fn forgetting(
    config: &config::FileSink,
    pipeline: &str,
    sink: &str,
) -> Result<Option<String>, SinkError> {
    let folder = Folder::new(&config.path);
    let (pipeline, sink) = (pipeline.to_owned(), sink.to_owned());
    on_thread(move || {
        let position = folder.find(&pipeline, &sink)?.and_then(|manifest| manifest.position());
        let path = folder.manifest_path();
        Ok(position.map(|position| format!("sed -i 's|\"{position}\"|null|' {}", path.display())))
    })
    .await
}

/// Does what [`forgetting`] tells.
pub(super) async fn forget(config: &config::FileSink, pipeline: &str, sink: &str) -> Result<(), SinkError> {
    let folder = Folder::new(&config.path);
    let (pipeline, sink) = (pipeline.to_owned(), sink.to_owned());
    on_thread(move || {
        let Some(mut manifest) = folder.find(&pipeline, &sink)? else {
            return Ok(());
        };
        manifest.forget_position();
        folder.store(&manifest)
    })
    .await
}

impl FileSink {
    pub(super) fn new(config: &config::FileSink) -> Self {
        Self {
            folder: Folder::new(&config.path),
            rotate_bytes: config.rotate.0,
            session: None,
            durable: 0,
        }
    }

    async fn open_files(&mut self, context: &SinkContext) -> Result<Option<Lsn>, SinkError> {
        self.session = None;
        let folder = self.folder.clone();
        let expected = Manifest::new(context, &folder);
        let (file, manifest) = on_thread(move || {
            let manifest = folder.load(expected)?;
            let file = folder.resume(&manifest)?;
            Ok((file, manifest))
        })
        .await?;
        let position = manifest.position();
        self.session = Some(Session {
            writer: Writer::new(file, manifest.current().length),
            encoder: Encoder::new(context.system_identifier),
            manifest,
            dirty: false,
            complete: self.durable,
            written: self.durable,
            inside: false,
        });
        Ok(position)
    }

    async fn write_delivery(&mut self, delivery: &Delivery) -> Result<Progress, SinkError> {
        let session = session(&mut self.session)?;
        let mut first = 0;
        for (transaction, rows) in delivery.transactions() {
            session.encoder.transaction(transaction);
            let out = session.writer.buffer();
            session.encoder.rows(&delivery.batch, rows, first, out)?;
            first += rows.len();
            session.inside = !transaction.is_complete();
            if transaction.is_complete() {
                // Whatever follows in this delivery, those before it are complete.
                session.complete = session.written;
                // A position without rows can wait: what comes again has no rows again.
                session.dirty |= session.manifest.set_length(session.writer.len());
                if transaction.origin == Origin::Stream && !transaction.is_aside() {
                    session.manifest.advance(transaction.end_lsn);
                }
                if session.writer.len() >= self.rotate_bytes {
                    session.rotate(&self.folder).await?;
                }
            }
        }
        session.written = delivery.sequence;
        if !session.inside {
            session.complete = delivery.sequence;
        }
        session.writer.spill().await?;
        Ok(Progress::Accepted)
    }

    async fn flush_files(&mut self) -> Result<u64, SinkError> {
        let session = session(&mut self.session)?;
        if session.dirty {
            session.writer.sync().await?;
            let (folder, manifest) = (self.folder.clone(), session.manifest.clone());
            on_thread(move || folder.store(&manifest)).await?;
            session.dirty = false;
        }
        self.durable = session.complete;
        Ok(self.durable)
    }
}

impl Session {
    /// Ends the current file, whose length the manifest has, and begins the next. The manifest has it before anything is
    /// written there, so that no rows lie in a file that nobody knows; and has it only once it is there to be read.
    async fn rotate(&mut self, folder: &Folder) -> Result<(), SinkError> {
        self.writer.sync().await?;
        self.manifest.rotate(folder);
        let (folder, manifest) = (folder.clone(), self.manifest.clone());
        let file = on_thread(move || {
            let file = folder.create(&manifest)?;
            folder.store(&manifest)?;
            Ok(file)
        })
        .await?;
        self.writer.replace(file);
        self.dirty = false;
        Ok(())
    }
}

/// The session, which is there between a successful open and the next failure.
fn session(session: &mut Option<Session>) -> Result<&mut Session, SinkError> {
    session
        .as_mut()
        .ok_or_else(|| SinkError::Transient(anyhow::anyhow!("the file isn't open")))
}

/// Runs what blocks on a thread of its own kind.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SinkError> + Send + 'static,
) -> Result<T, SinkError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| SinkError::Transient(error.into()))?
}

impl Sink for FileSink {
    fn open<'a>(&'a mut self, context: &'a SinkContext) -> SinkFuture<'a, Option<Lsn>> {
        Box::pin(self.open_files(context))
    }

    fn write<'a>(&'a mut self, delivery: &'a Delivery) -> SinkFuture<'a, Progress> {
        Box::pin(self.write_delivery(delivery))
    }

    fn flush(&mut self) -> SinkFuture<'_, u64> {
        Box::pin(self.flush_files())
    }

    fn close(&mut self) -> SinkFuture<'_, ()> {
        Box::pin(async {
            self.flush_files().await?;
            self.session = None;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
