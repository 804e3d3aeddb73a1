//! Results of `rowmill plugin test`, `inspect` and `conform`, for people and for programs.

use super::super::plugin::database::Database;
use super::super::plugin::subject::{load_samples, module_at, problem};
use super::super::plugin::{inspect as inspected, test as tested};
use super::super::{DONE, Outcome, Output, block_on};
use super::{Conform, Inspect, Test, failure};
use crate::batch::Batch;
use crate::plugin::Engine;
use crate::plugin_tools::conform as suite;
use crate::problem::{Exit, escape};
use serde_json::{Value, json};
use tested::{Tested, Verdict};

pub(super) fn test(args: &Test, mut output: Output) -> Outcome {
    let run = tested::test(&args.path, args.samples.as_deref(), args.config.as_deref(), args.bless);
    let files = run.map_err(failure)?;
    let good = files.iter().all(|file| file.verdict.is_good());
    let value = json!({ "ok": good, "files": files.iter().map(tested_json).collect::<Vec<_>>() });
    output.value(&value, |_| files.iter().map(tested_text).collect::<Vec<_>>().join("\n"))?;
    Ok(if good { DONE } else { Exit::Plugin as u8 })
}

fn fuel_per_change(file: &Tested) -> u64 {
    file.fuel / file.changes.max(1) as u64
}

fn tested_json(file: &Tested) -> Value {
    let (verdict, detail) = match &file.verdict {
        Verdict::Passed => ("passed", Value::Null),
        Verdict::Blessed => ("blessed", Value::Null),
        Verdict::NothingExpected => ("nothing expected", Value::Null),
        Verdict::Differs(lines) => ("differs", json!(lines)),
        Verdict::DependsOnCuts(cut, lines) => ("depends on cuts", json!({ "cut": cut, "lines": lines })),
        Verdict::Broke(why) => ("broke", json!(why)),
    };
    json!({
        "file": file.file.display().to_string(),
        "changes": file.changes,
        "fuel_per_change": fuel_per_change(file),
        "verdict": verdict,
        "detail": detail,
    })
}

fn tested_text(file: &Tested) -> String {
    let name = file.file.display();
    let of = format!("{} changes, fuel {} a change", file.changes, fuel_per_change(file));
    let shown = |lines: &[String]| {
        lines
            .iter()
            .map(|line| format!("\n    {}", escape(line)))
            .collect::<String>()
    };
    match &file.verdict {
        Verdict::Passed => format!("ok      {name}: {of}"),
        Verdict::Blessed => format!("blessed {name}: {of}"),
        Verdict::NothingExpected => {
            format!("FAILED  {name}: nothing says what is expected; look at what comes out with --bless")
        }
        Verdict::Differs(lines) => format!("FAILED  {name}: {of}{}", shown(lines)),
        Verdict::DependsOnCuts(cut, lines) => {
            format!(
                "FAILED  {name}: it comes out otherwise where batches are cut {cut}{}",
                shown(lines)
            )
        }
        Verdict::Broke(why) => format!("FAILED  {name}: {}", escape(why)),
    }
}

pub(super) fn inspect(args: &Inspect, mut output: Output) -> Outcome {
    let module = module_at(&args.path).map_err(failure)?;
    let database = Database::of(&args.database)
        .map(|database| database.open())
        .transpose()?;
    let of_pipeline = database.as_ref().and_then(|database| database.config_of(&module));
    let subject = match (&args.config, of_pipeline) {
        (None, Some(config)) => inspected::subject_with(&module, config),
        (config, _) => inspected::subject(&module, config.as_deref()),
    };
    let subject = subject.map_err(failure)?;
    let mut value = inspected::module(&module, &subject);
    let relations = match (&args.schema, &database) {
        (Some(schema), _) => Some(inspected::relations(schema).map_err(failure)?),
        (None, Some(database)) => Some(block_on(async { Ok(database.relations(&args.tables).await?) })?),
        (None, None) => None,
    };
    if let Some(relations) = relations {
        value["tables"] = inspected::tables(&subject, &relations).map_err(failure)?.into();
    }
    output.value(&value, inspect_text)?;
    Ok(DONE)
}

fn inspect_text(value: &Value) -> String {
    let shown = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => escape(text),
        Value::Array(all) => {
            let all: Vec<String> = all
                .iter()
                .map(|one| one.as_str().map_or_else(|| one.to_string(), escape))
                .collect();
            all.join(", ")
        }
        other => other.to_string(),
    };
    let keys = [
        "module",
        "hash",
        "size_bytes",
        "name",
        "version",
        "kind",
        "abi",
        "features",
        "state_scope",
        "imports",
        "exports",
    ];
    let mut lines: Vec<String> = keys
        .iter()
        .map(|key| format!("{key:12} {}", shown(&value[*key])))
        .collect();
    let list = |key: &str| value[key].as_array().cloned().unwrap_or_default();
    lines.push("sections".to_owned());
    lines.extend(
        list("sections")
            .iter()
            .map(|section| format!("{:>10}  {}", section["size_bytes"], shown(&section["name"]))),
    );
    for table in list("tables") {
        let mut line = format!("table {}: {}", shown(&table["table"]), shown(&table["action"]));
        for key in ["reason", "reads", "writes"] {
            if !table[key].is_null() {
                line.push_str(&format!("; {key} {}", shown(&table[key])));
            }
        }
        lines.push(line);
        let outputs = table["outputs"].as_array().cloned().unwrap_or_default();
        lines.extend(outputs.iter().map(|output| {
            let columns = output["columns"].as_array().cloned().unwrap_or_default();
            let columns: Vec<String> = columns.iter().map(|column| shown(&column["name"])).collect();
            format!(
                "  gives {}.{} ({})",
                shown(&output["schema"]),
                shown(&output["table"]),
                columns.join(", ")
            )
        }));
    }
    lines.join("\n")
}

pub(super) fn conform(args: &Conform, mut output: Output) -> Outcome {
    let module = module_at(&args.path).map_err(failure)?;
    let given = args
        .samples
        .as_deref()
        .map(load_samples)
        .transpose()?
        .unwrap_or_default();
    let given: Vec<Batch> = given.into_iter().map(|file| file.batch).collect();
    let engine = Engine::new(None).map_err(problem)?;
    let subject = module.subject(&engine, args.config.as_deref())?;
    let previous = args.previous.as_deref().map(module_at).transpose().map_err(failure)?;
    let previous = previous.map(|previous| previous.subject(&engine, args.config.as_deref()));
    let cases = suite::run(&subject, &given, previous.transpose()?.as_ref());
    let failed = cases
        .iter()
        .filter(|case| matches!(case.verdict, suite::Verdict::Fail(_)))
        .count();
    let passed = cases.iter().filter(|case| case.verdict == suite::Verdict::Pass).count();
    let value = json!({
        "ok": failed == 0,
        "passed": passed,
        "failed": failed,
        "not_applicable": cases.len() - passed - failed,
        "cases": cases.iter().map(case_json).collect::<Vec<_>>(),
    });
    output.value(&value, |_| {
        let mut lines: Vec<String> = cases.iter().map(case_text).collect();
        let rest = cases.len() - passed - failed;
        lines.push(format!("{passed} passed, {failed} failed, {rest} not applicable"));
        lines.join("\n")
    })?;
    Ok(if failed == 0 { DONE } else { Exit::Plugin as u8 })
}

fn case_json(case: &suite::Case) -> Value {
    let (verdict, reason) = match &case.verdict {
        suite::Verdict::Pass => ("pass", None),
        suite::Verdict::Fail(reason) => ("fail", Some(reason)),
        suite::Verdict::NotApplicable(reason) => ("not applicable", Some(reason)),
    };
    json!({ "case": case.name, "verdict": verdict, "reason": reason })
}

fn case_text(case: &suite::Case) -> String {
    match &case.verdict {
        suite::Verdict::Pass => format!("pass   {}", case.name),
        suite::Verdict::Fail(reason) => format!("FAILED {}: {}", case.name, escape(reason)),
        suite::Verdict::NotApplicable(reason) => format!("n/a    {}: {}", case.name, escape(reason)),
    }
}
