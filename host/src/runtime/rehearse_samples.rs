//! A new version goes through the plugin's golden samples before it may take over.
//!
//! They are rows of any kind that its author thought of; the last real batches have those that happen to come. What is
//! expected of them isn't compared: it depends on the configuration that the author blessed it with.

use super::modules::Taken;
use super::process::Process;
use crate::plugin::PluginError;
use crate::plugin_tools::cuts::Cut;
use crate::plugin_tools::samples::{self, SampleFile};
use crate::plugin_tools::{Subject, golden};
use crate::problem::{Exit, Problem};
use std::path::Path;

/// Takes the samples through the candidate alone, with its configuration and its limits.
///
/// # Errors
///
/// Samples that can't be read; a candidate that breaks on one, or refuses a table that the running version takes.
pub(super) fn rehearse_samples(
    process: &Process,
    running: Option<&Taken>,
    candidate: &Taken,
) -> Result<(), Box<Problem>> {
    let plugin = &candidate.plugin;
    let beside = samples::beside(&plugin.module);
    let folder = match &plugin.samples {
        Some(folder) => folder,
        None if beside.is_dir() => &beside,
        None => return Ok(()),
    };
    let files = samples::load(folder).map_err(|error| Box::new(unreadable(&plugin.name, &error)))?;
    let subject = |taken: &Taken| Subject::candidate(&process.engine, taken.runnable());
    let tried = subject(candidate);
    for file in &files {
        let Err(error) = golden::run(&tried, &file.batch, Cut::Whole) else {
            continue;
        };
        let is_refusal = matches!(error, PluginError::Refused(_));
        if is_refusal && running.is_none_or(|running| refuses(&subject(running), file)) {
            let problem = error.problem();
            tracing::warn!(
                plugin = plugin.name,
                sample = %file.path.display(),
                reason = super::reload::reason(&problem),
                "the sample isn't rehearsed: its table is refused, by the running version as well"
            );
            continue;
        }
        return Err(Box::new(failed(&file.path, &error.problem())));
    }
    tracing::debug!(
        plugin = plugin.name,
        files = files.len(),
        "the golden samples went well"
    );
    Ok(())
}

fn refuses(subject: &Subject, file: &SampleFile) -> bool {
    let run = golden::run(subject, &file.batch, Cut::Whole);
    matches!(run, Err(PluginError::Refused(_)))
}

fn failed(path: &Path, problem: &Problem) -> Problem {
    let headline = format!(
        "it failed on the golden sample {} in its rehearsal: {}",
        path.display(),
        problem.headline
    );
    Problem {
        headline,
        ..problem.clone()
    }
}

fn unreadable(plugin: &str, error: &samples::SampleError) -> Problem {
    let headline = format!("the golden samples of plugin {plugin} can't be read");
    let help = "correct the file that the cause names, or take it out of the folder";
    Problem::new("E0340", Exit::Plugin, headline, help).with_cause(error.to_string())
}
