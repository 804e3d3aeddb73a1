//! `rowmill slot`: the replication slots of a pipeline's server.

use super::{DONE, Outcome, Output, block_on, codes};
use crate::batch::Lsn;
use crate::config::{self, Pipeline};
use crate::problem::{Exit, Problem, escape};
use crate::runtime::{self, connect_source};
use crate::source::slot::{self, SlotState};
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Slots with what they hold back.
    List(List),
    /// Drop a slot of the pipeline's database: what it stood for can't be streamed again.
    Drop(Drop),
    /// Move the slot and the stored position on, past changes that can't be streamed: they are missing then.
    Skip(Skip),
}

#[derive(Debug, clap::Args)]
pub struct List {
    /// The pipeline.
    #[arg(default_value = config::DEFAULT_FILE, value_name = "FILE")]
    pub file: PathBuf,
}

#[derive(Debug, clap::Args)]
pub struct Drop {
    /// The slot's name: written out, so that none is dropped by mistake.
    pub slot: String,
    /// The pipeline.
    #[arg(default_value = config::DEFAULT_FILE, value_name = "FILE")]
    pub file: PathBuf,
}

#[derive(Debug, clap::Args)]
pub struct Skip {
    /// A position, or `now` for where the server's WAL ends.
    #[arg(long, value_name = "POSITION", value_parser = target)]
    pub to: Target,
    /// The pipeline; its host must not run.
    #[arg(default_value = config::DEFAULT_FILE, value_name = "FILE")]
    pub file: PathBuf,
}

/// Where a slot is moved to.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    Now,
    At(Lsn),
}

fn target(text: &str) -> Result<Target, String> {
    match text {
        "now" => Ok(Target::Now),
        _ => text
            .parse()
            .map(Target::At)
            .map_err(|_| "not a position such as 0/16B3748, and not `now`".to_owned()),
    }
}

pub(super) fn run(verb: Verb, output: Output) -> Outcome {
    match verb {
        Verb::List(args) => list(&config::load(&args.file)?, output),
        Verb::Drop(args) => drop_slot(&config::load(&args.file)?, &args.slot, output),
        Verb::Skip(args) => skip(&config::load(&args.file)?, args.to, output),
    }
}

fn list(pipeline: &Pipeline, mut output: Output) -> Outcome {
    let slots = block_on(async {
        let client = connect_source(pipeline, "slot").await?;
        Ok(slot::list(&client).await?)
    })?;
    let own = pipeline.slot_name();
    let value = json!({
        "pipeline": pipeline.name,
        "slots": slots.iter().map(|slot| as_json(slot, &own)).collect::<Vec<Value>>(),
    });
    output.value(&value, |_| match slots.is_empty() {
        true => "the server has no slots".to_owned(),
        false => slots.iter().map(|slot| text(slot, &own)).collect::<Vec<_>>().join("\n"),
    })?;
    Ok(DONE)
}

fn as_json(slot: &SlotState, own: &str) -> Value {
    let lsn = |lsn: Option<u64>| lsn.map(|lsn| Lsn(lsn).to_string());
    json!({
        "name": slot.name,
        "own": slot.name == own,
        "type": slot.slot_type,
        "plugin": slot.plugin,
        "database": slot.database,
        "active": slot.active.as_ref().map(|consumer| json!({
            "pid": consumer.pid,
            "client": consumer.client_address,
            "application_name": consumer.application_name,
        })),
        "restart_lsn": lsn(slot.restart_lsn),
        "confirmed_flush_lsn": lsn(slot.confirmed_flush_lsn),
        "wal_status": slot.wal_status,
        "retained_bytes": slot.retained,
        "safe_wal_size_bytes": slot.safe_wal_size,
        "lost": slot.lost(),
    })
}

fn text(slot: &SlotState, own: &str) -> String {
    let of = match (slot.name == own, &slot.plugin, &slot.database) {
        (true, _, _) => "of this pipeline".to_owned(),
        (false, Some(plugin), Some(database)) => format!("{plugin} of database {database}"),
        _ => "physical".to_owned(),
    };
    let used = match &slot.active {
        Some(consumer) => format!("used by {consumer}"),
        None => "not in use".to_owned(),
    };
    let held = match (slot.lost(), slot.retained) {
        (true, _) => "lost".to_owned(),
        (false, Some(bytes)) => format!("holds back {bytes} bytes of WAL"),
        (false, None) => "holds back nothing".to_owned(),
    };
    escape(&format!("{}: {of}, {used}, {held}", slot.name))
}

fn drop_slot(pipeline: &Pipeline, name: &str, mut output: Output) -> Outcome {
    block_on(async {
        let client = connect_source(pipeline, "slot").await?;
        if let Some(slot) = slot::state(&client, name).await?
            && slot.database.as_ref() != Some(&slot.current_database)
        {
            return Err(of_another(&slot).into());
        }
        Ok(slot::drop(&client, name).await?)
    })?;
    let value = json!({ "dropped": name });
    output.value(&value, |_| format!("{}: dropped", escape(name)))?;
    Ok(DONE)
}

fn skip(pipeline: &Pipeline, to: Target, mut output: Output) -> Outcome {
    let to = match to {
        Target::Now => None,
        Target::At(lsn) => Some(lsn),
    };
    let skipped = block_on(async { Ok(runtime::skip_slot(pipeline, to).await?) })?;
    let (from, to) = (skipped.from.to_string(), skipped.to.to_string());
    let value = json!({ "slot": pipeline.slot_name(), "from": from, "to": to });
    output.value(&value, |_| {
        let slot = escape(&pipeline.slot_name());
        format!("{slot}: transactions that commit from {from} to {to} won't be streamed\nafter `rowmill run`, copy the tables that they changed anew: `rowmill resync TABLE`")
    })?;
    Ok(DONE)
}

/// A physical slot keeps a standby going; one of another database is not this pipeline's matter.
fn of_another(slot: &SlotState) -> Problem {
    let whose = match &slot.database {
        Some(database) => format!("of database `{database}`"),
        None => "physical".to_owned(),
    };
    let headline = format!("slot `{}` is {whose}: not one of this pipeline's database", slot.name);
    let help = "name a slot that `rowmill slot list` shows for this database";
    Problem::new(codes::SLOT_OF_ANOTHER.code, Exit::Preflight, headline, help)
}
