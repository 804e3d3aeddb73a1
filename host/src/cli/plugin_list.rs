//! `rowmill plugin list` and `rollback`: the versions of a running host's plugins.

use super::client::{self, get_json, post_patiently};
use super::{DONE, Outcome, Output, block_on, codes};
use crate::problem::{Exit, Problem, escape};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// How much of a hash people read.
const HASH_SHOWN: usize = 12;

#[derive(Debug, clap::Args)]
pub struct Rollback {
    /// The plugin's name in pipeline.yaml.
    pub name: String,
    #[command(flatten)]
    pub host: client::Args,
}

pub(super) fn list(args: &client::Args, mut output: Output) -> Outcome {
    let status = block_on(get_json(args.console, "/api/status"))?;
    let pipelines = status["pipelines"].as_array().into_iter().flatten();
    let of = |pipeline: &Value| json!({ "pipeline": pipeline["pipeline"], "plugins": pipeline["plugins"] });
    let pipelines: Vec<Value> = pipelines.map(of).collect();
    output.value(&json!({ "pipelines": pipelines }), text)?;
    Ok(DONE)
}

pub(super) fn roll_back(args: &Rollback, mut output: Output) -> Outcome {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if args.name.is_empty() || !args.name.chars().all(is_plain) {
        return Err(failed(&json!({})).into());
    }
    let path = format!("/api/plugins/{}/rollback", args.name);
    let answer = block_on(post_patiently(args.host.console, &path, &json!({})))?;
    if answer.code != 200 {
        return Err(failed(&answer.body).into());
    }
    output.value(&answer.body, |done| {
        let running = short(&done["running"]);
        format!("{} runs version {running} again", words(&done["plugin"]))
    })?;
    Ok(DONE)
}

fn failed(answer: &Value) -> Problem {
    let text = |key: &str| answer[key].as_str().map(escape);
    let headline = text("headline").unwrap_or_else(|| "the plugin can't go back".to_owned());
    let help = text("help").unwrap_or_else(|| "name one that `rowmill plugin list` shows".to_owned());
    let problem = Problem::new(codes::NO_ROLLBACK.code, Exit::Plugin, headline, help);
    match text("cause") {
        Some(cause) => problem.with_cause(cause),
        None => problem,
    }
}

fn text(list: &Value) -> String {
    let mut text = String::new();
    for pipeline in list["pipelines"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "pipeline {}", words(&pipeline["pipeline"]));
        for plugin in pipeline["plugins"].as_array().into_iter().flatten() {
            let state = if plugin["on_probation"] == true {
                "on probation"
            } else {
                "running"
            };
            let (name, hash) = (words(&plugin["name"]), short(&plugin["hash"]));
            let since = plugin["since"].as_u64().unwrap_or_default();
            let _ = write!(text, "  {name}  {hash}  {state} since {}", time(since));
            if let Some(routes) = plugin["routes"].as_array().filter(|routes| !routes.is_empty()) {
                let routes: Vec<String> = routes.iter().map(words).collect();
                let _ = write!(text, "  on {}", routes.join("; "));
            }
            text.push('\n');
            if plugin["candidate"].is_object() {
                let (hash, step) = (short(&plugin["candidate"]["hash"]), words(&plugin["candidate"]["step"]));
                let _ = writeln!(text, "    candidate {hash} {step}");
            }
            if plugin["refused"].is_object() {
                let (hash, reason) = (short(&plugin["refused"]["hash"]), words(&plugin["refused"]["reason"]));
                let _ = writeln!(text, "    refused {hash}: {reason}");
            }
        }
    }
    text
}

fn words(value: &Value) -> String {
    value.as_str().map(escape).unwrap_or_else(|| "-".to_owned())
}

fn short(hash: &Value) -> String {
    words(hash).chars().take(HASH_SHOWN).collect()
}

/// Seconds since 1970 as people read them, in UTC.
fn time(since: u64) -> String {
    let (days, second) = (since / 86_400, since % 86_400);
    // Civil date of a day's number: the era of 400 years begins on the first of March.
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + next;
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!(
        "{year}-{month:02}-{date:02} {hour:02}:{minute:02}:{:02} UTC",
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_what_runs_and_what_was_refused() {
        let plugin = json!({
            "name": "mask", "hash": "aabbccddeeff0011", "since": 1_764_111_845, "on_probation": true,
            "routes": ["public.orders"], "candidate": { "hash": "99887766554433", "step": "is tried" }, "refused": { "hash": "112233445566", "reason": "trapped" },
        });
        let list = json!({ "pipelines": [{ "pipeline": "shop", "plugins": [plugin] }] });
        let expected = "\
pipeline shop
  mask  aabbccddeeff  on probation since 2025-11-25 23:04:05 UTC  on public.orders
    candidate 998877665544 is tried
    refused 112233445566: trapped
";
        assert_eq!(text(&list), expected);
    }
}
