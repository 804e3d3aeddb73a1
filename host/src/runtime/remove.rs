//! Takes down what a pipeline has left: slot and publication at the source, positions at targets, its state.

use super::source::connect_source;
use crate::checkpoint::StateStore;
use crate::config::{Pipeline, Sink};
use crate::postgres::install_crypto_provider;
use crate::problem::{Exit, Problem};
use crate::sink::{self, SinkError};
use crate::source::publication::own_name;
use crate::source::remove::{self, Removal};
use std::path::PathBuf;
use tokio_postgres::Client;

/// Folders of the state folder that mean nothing without the state. Dead letters would block keys of the next life;
/// prepared transactions are those of the old slot, spilled ones those of a run that was killed.
const CACHES: [&str; 5] = ["compiled", "modules", "dead_letters", "prepared", "spill"];

/// What a pipeline has left and is to go. While it lives, no host starts with the state.
pub struct Leftovers {
    client: Client,
    pipeline: String,
    /// At the source, the slot first.
    source: Vec<Removal>,
    positions: Vec<Positions>,
    /// `None` where there is no state.
    state: Option<(StateStore, PathBuf)>,
}

/// How far a sink's target says that it has come: a row of `rowmill.positions`, or a manifest's position. Left behind it
/// would drop what commits below it.
struct Positions {
    sink: Sink,
    statement: String,
}

impl Leftovers {
    /// Looks for everything; changes nothing.
    ///
    /// # Errors
    /// A host that holds the state, a server that can't be asked, a slot that is in use.
    pub async fn find(config: &Pipeline) -> Result<Self, Box<Problem>> {
        install_crypto_provider();
        let state = match config.state_dir.join(StateStore::FILE).exists() {
            true => Some((
                StateStore::open(&config.state_dir, &config.name)?,
                config.state_dir.clone(),
            )),
            false => None,
        };
        let client = connect_source(config, "remove").await?;
        let slot = own_slot(config, state.as_ref().map(|(store, _)| store))?;
        let adopted = config.source.publication.as_deref();
        let source = remove::plan(&client, &config.name, slot.as_deref(), adopted).await?;
        let mut positions = Vec::new();
        for of_sink in &config.sinks {
            let statement = sink::forgetting(of_sink, &config.name).await;
            if let Some(statement) = statement.map_err(|error| not_asked(&of_sink.name, error))? {
                positions.push(Positions {
                    sink: of_sink.clone(),
                    statement,
                });
            }
        }
        Ok(Self {
            client,
            pipeline: config.name.clone(),
            source,
            positions,
            state,
        })
    }

    /// What [`Self::take_down`] does, step by step: where, and the statement or command.
    pub fn steps(&self) -> Vec<(String, String)> {
        let mut steps = Vec::new();
        for removal in &self.source {
            steps.push(("source".to_owned(), removal.statement.clone()));
        }
        for positions in &self.positions {
            steps.push((format!("sink {}", positions.sink.name), positions.statement.clone()));
        }
        if let Some((_, folder)) = &self.state {
            let file = folder.join(StateStore::FILE);
            steps.push(("state".to_owned(), format!("rm {}", file.display())));
            for cache in CACHES
                .iter()
                .map(|cache| folder.join(cache))
                .filter(|cache| cache.exists())
            {
                steps.push(("state".to_owned(), format!("rm -r {}", cache.display())));
            }
        }
        steps
    }

    /// Takes everything down, the state last: until then it can be tried again.
    ///
    /// # Errors
    /// Whatever refuses; what went before it is gone.
    pub async fn take_down(self) -> Result<(), Box<Problem>> {
        remove::apply(&self.client, &self.source).await?;
        for Positions { sink, statement } in &self.positions {
            let forgotten = sink::forget(sink, &self.pipeline, statement).await;
            forgotten.map_err(|error| not_asked(&sink.name, error))?;
        }
        let Some((store, folder)) = self.state else {
            return Ok(());
        };
        store.delete()?;
        for cache in CACHES {
            // Without the state nothing refers to what lies there.
            if let Err(error) = std::fs::remove_dir_all(folder.join(cache)) {
                tracing::debug!(cache, %error, "a folder of the state stays");
            }
        }
        Ok(())
    }
}

/// The slot, where it is Rowmill's to drop: one of the pipeline's name, or one that was given another name and was made
/// here. One that somebody made and named in the file stays.
fn own_slot(config: &Pipeline, store: Option<&StateStore>) -> Result<Option<String>, Box<Problem>> {
    let slot = config.slot_name();
    let is_default = slot == own_name(&config.name);
    let made = match store {
        Some(store) if !is_default => store.own_slot()?,
        _ => None,
    };
    Ok((is_default || made.as_ref() == Some(&slot)).then_some(slot))
}

fn not_asked(name: &str, error: SinkError) -> Box<Problem> {
    Box::new(match error {
        SinkError::Definite(problem) => *problem,
        other => {
            let headline = format!("sink {name} can't be reached");
            let help = "start the target, then remove again: nothing of the state is gone yet";
            Problem::new("E0409", Exit::Sink, headline, help).with_cause(other)
        }
    })
}
