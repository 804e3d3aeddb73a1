//! Lets a sink pass over transactions.

use super::source::connect_source;
use crate::batch::Lsn;
use crate::config::{Pipeline, SinkKind};
use crate::problem::{Exit, Problem};
use crate::sink::{self, SinkError};

/// Moves the position of a Postgres sink behind the transaction that commits at `to`, and returns where it was.
///
/// # Errors
/// A sink that keeps no position, a position that is no transaction's of this server, a host at work, a server that
/// can't be asked.
pub async fn skip(config: &Pipeline, sink: &str, to: Lsn) -> Result<Option<Lsn>, Box<Problem>> {
    let refuse = |cause: String, help: &str| {
        let headline = format!("sink {sink} can't skip to {to}");
        Box::new(Problem::new("E0415", Exit::Usage, headline, help).with_cause(cause))
    };
    let of_sink = config.sinks.iter().find(|of_sink| of_sink.name == sink);
    let Some(SinkKind::Postgres(target)) = of_sink.map(|of_sink| &of_sink.kind) else {
        let cause = "the file has no Postgres sink of this name, and others keep no position of their own";
        return Err(refuse(cause.to_owned(), "name a Postgres sink of the pipeline"));
    };
    let source = connect_source(config, "skip").await?;
    let end = "SELECT (pg_catalog.pg_current_wal_flush_lsn() - '0/0')::text";
    let end = source.query_one(end, &[]).await.map_err(|error| {
        refuse(
            format!("the server doesn't say where its WAL ends: {error}"),
            "run it against the primary",
        )
    })?;
    let end = Lsn(end.get::<_, &str>(0).parse().unwrap_or_default());
    // What hasn't happened yet would be passed over without anybody having seen it.
    if to >= end {
        let cause = format!("the server's WAL ends at {end}");
        return Err(refuse(cause, "take the position from the sink's error"));
    }
    match sink::skip(&target.url, &config.name, sink, to).await {
        Ok(Ok(before)) => Ok(before),
        Ok(Err(cause)) => Err(refuse(cause, "take the position from the sink's error")),
        Err(SinkError::Definite(problem)) => Err(problem),
        Err(other) => {
            let headline = format!("sink {sink} can't be reached");
            let help = "start the target, then skip again";
            Err(Box::new(
                Problem::new("E0409", Exit::Sink, headline, help).with_cause(other),
            ))
        }
    }
}
