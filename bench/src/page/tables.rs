//! Tables of Markdown from the reports of benchmarks. `None` where a report lacks what it should have.

use crate::plot::{Plot, Series};
use serde_json::Value;
use std::fmt::Write;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// With commas between thousands.
fn count(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && digit != '-' {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn table(head: &str, rows: impl Iterator<Item = String>) -> String {
    let columns = head.matches('|').count() - 1;
    let mut out = format!("{head}\n|{}\n", " --- |".repeat(columns));
    rows.for_each(|row| {
        out.push_str(&row);
        out.push('\n');
    });
    out
}

/// Both sides of every case.
pub fn compared(report: &Value) -> Option<String> {
    let cases = report["cases"].as_array()?;
    let rows = |case: &Value| number(&case["rows"]);
    let all_alike = cases.iter().all(|case| rows(case) == rows(&cases[0]));
    let side = |case: &Value, side: &Value, ratio: &str| {
        let name = text(&case["case"]);
        let name = match all_alike {
            true => name.to_owned(),
            false => format!("{name}: {}", count(rows(case))),
        };
        format!(
            "| {name} | {} | {} | {:.3} | {:.3} | {:.1} | {} | {ratio} |",
            text(&side["name"]).replace('\\', "\\\\").replace('|', "\\|"),
            count(number(&side["rows_per_second"])),
            number(&side["cpu_seconds_per_million_rows"]),
            number(&side["server_cpu_seconds_per_million_rows"]),
            number(&side["peak_memory_mib"]),
            match number(&side["bytes"]) {
                0.0 => String::new(),
                bytes => count(bytes / 1e6),
            },
        )
    };
    let sides = cases.iter().flat_map(|case| {
        let spread = &case["rate_ratio_spread"];
        let ratio = format!(
            "**{:.2} x** ({:.2} to {:.2})",
            number(&case["rate_ratio"]),
            number(&spread[0]),
            number(&spread[1])
        );
        [side(case, &case["theirs"], ""), side(case, &case["ours"], &ratio)]
    });
    let head =
        "| case | side | rows/s | CPU s per million rows | server's | peak MiB | MB out | rate, median of pairs |";
    let pairs = cases.first()?["ours"]["seconds"].as_array()?.len();
    let each = match all_alike {
        true => format!("{} rows each", count(rows(&cases[0]))),
        false => "rows as said with each case".to_owned(),
    };
    Some(table(head, sides) + &format!("\n{pairs} pairs in turn, {each}.\n"))
}

pub fn engine(report: &Value) -> Option<String> {
    let rows = report["cases"].as_array()?.iter().map(|case| {
        format!(
            "| {} | {} | {:.3} |",
            text(&case["name"]),
            count(number(&case["rows_per_second"])),
            number(&case["cpu_seconds_per_million_rows"])
        )
    });
    let lanes = number(&report["two_lanes_ratio"]);
    let scales = format!("\nTwo lanes make {lanes:.2} times the rate of one; decoding takes a core's part.\n");
    Some(table("| way | rows/s | CPU s per million rows |", rows) + &scales)
}

pub fn plugin(report: &Value) -> Option<String> {
    let rows = report["cases"].as_array()?.iter().map(|case| {
        let limit = case["limit_ns"]
            .as_f64()
            .map_or_else(String::new, |limit| format!("{limit:.0}"));
        format!(
            "| {} | {:.1} | {:.1} to {:.1} | {limit} |",
            text(&case["name"]),
            number(&case["median_ns"]),
            number(&case["spread_ns"][0]),
            number(&case["spread_ns"][1])
        )
    });
    let mut out = table("| plugin | ns per row | rounds | limit |", rows);
    if let Some(cached) = report["cached_module_ms"].as_f64() {
        let _ = writeln!(
            out,
            "\nA module of 1 MB whose code is kept is loaded in {cached:.2} ms."
        );
    }
    let divided = report["divided"].as_array().into_iter().flatten().map(|case| {
        format!(
            "| {} | {} | {:.2} x |",
            number(&case["threads"]),
            count(number(&case["rows_per_second"])),
            number(&case["by_one"])
        )
    });
    let divided: Vec<String> = divided.collect();
    if !divided.is_empty() {
        out.push_str("\nA total of each key, divided by it:\n\n");
        out.push_str(&table("| threads | rows/s | by one |", divided.into_iter()));
    }
    Some(out)
}

const LATENCY_HEAD: &str = "| | changes | p50 ms | p99 ms | p99.9 ms | greatest |";

fn latency_row(name: &str, of: &Value) -> String {
    let ms = |key: &str| number(&of[key]);
    format!(
        "| {name} | {} | {:.2} | {:.2} | {:.2} | {:.2} |",
        count(number(&of["changes"])),
        ms("p50_ms"),
        ms("p99_ms"),
        ms("p999_ms"),
        ms("max_ms")
    )
}

fn rate_name(rate: &Value) -> String {
    format!("{} commits/s", count(number(&rate["per_second"])))
}

pub fn latency(report: &Value) -> Option<String> {
    let rates = report["rates"].as_array()?;
    let rows = rates.iter().map(|rate| latency_row(&rate_name(rate), &rate["latency"]));
    Some(table(LATENCY_HEAD, rows) + "\n![Share of the changes by latency](performance/latency.svg)\n")
}

pub fn latency_beside(report: &Value) -> Option<String> {
    let both = report["latency"].as_object()?;
    let rows = ["rowmill", "debezium"].map(|side| latency_row(side, &both[side]));
    Some(table(LATENCY_HEAD, rows.into_iter()))
}

pub fn latency_plot(report: &Value) -> Plot {
    let rates = report["rates"].as_array().into_iter().flatten();
    let series = rates.map(|rate| {
        let all = number(&rate["latency"]["changes"]);
        let bars = rate["latency"]["histogram"].as_array().into_iter().flatten();
        Series {
            label: rate_name(rate),
            points: bars
                .map(|bar| (number(&bar["below_ms"]), 100.0 * number(&bar["changes"]) / all))
                .collect(),
        }
    });
    Plot {
        x: "latency below, ms".to_owned(),
        y: "% of the changes".to_owned(),
        series: series.collect(),
    }
}

pub fn growth(report: &Value) -> Option<String> {
    let mut out = String::new();
    for series in report["series"].as_array()? {
        let (name, x, y) = (text(&series["name"]), text(&series["x"]), text(&series["y"]));
        for line in series["lines"].as_array()? {
            let points = line["points"].as_array()?;
            let cells = |key: &'static str, decimals: usize| {
                let cells = points
                    .iter()
                    .map(move |point| format!(" {:.decimals$} |", number(&point[key])));
                cells.collect::<String>()
            };
            let label = match text(&line["label"]) {
                "" => y.to_owned(),
                label => format!("{y}: {label}"),
            };
            let _ = writeln!(out, "| {x} |{}", cells("x", 0));
            let _ = writeln!(out, "|{}", " --- |".repeat(points.len() + 1));
            let _ = writeln!(out, "| {label} |{}\n", cells("y", 2));
        }
        let _ = writeln!(out, "![{y} by {x}](performance/growth-{name}.svg)\n");
    }
    out.truncate(out.trim_end().len());
    Some(out + "\n")
}

pub fn start(report: &Value) -> Option<String> {
    let rows = report["cases"].as_array()?.iter().map(|case| {
        format!(
            "| {} | {:.2} | {:.2} | {:.2} | {:.1} |",
            count(number(&case["tables"])),
            number(&case["first_seconds"]),
            number(&case["later_seconds"]),
            number(&case["cpu_seconds"]),
            number(&case["peak_memory_mib"])
        )
    });
    Some(table(
        "| tables | first start, s | later ones, s | CPU s | peak MiB |",
        rows,
    ))
}

pub fn memory(report: &Value) -> Option<String> {
    let rows = report["cases"].as_array()?.iter().map(|case| {
        format!(
            "| {} | {:.1} | {:.1} | {:.1} | {:.2} |",
            text(&case["case"]),
            number(&case["peak_memory_mib"]),
            number(&case["more_mib"]),
            number(&case["row_mib"]),
            number(&case["seconds"])
        )
    });
    Some(table(
        "| case | peak MiB | more than 1,000 rows | one row | seconds |",
        rows,
    ))
}

pub fn parts(report: &Value) -> Option<String> {
    let rows = report["cases"].as_array()?.iter().map(|case| {
        format!(
            "| {} | {:.1} | {:.1} to {:.1} |",
            text(&case["name"]),
            number(&case["median_ns"]),
            number(&case["spread_ns"][0]),
            number(&case["spread_ns"][1])
        )
    });
    Some(table("| part | ns per row | 95 % confidence |", rows))
}

/// Where the host's CPU goes, job by job, and the walsender's.
pub fn profile(report: &Value) -> Option<String> {
    let jobs = report["jobs"].as_array()?;
    let mut out = String::new();
    for job in jobs {
        let name = text(&job["name"]);
        let share = |value: &Value| format!("{:.1} %", 100.0 * number(value));
        let shares = |parts: &Value, head: &str| {
            let rows = parts.as_array().into_iter().flatten();
            let rows = rows.map(|part| format!("| {} | {} |", text(&part["part"]), share(&part["share"])));
            table(head, rows)
        };
        out += &shares(&job["shares"], &format!("| `{name}` | of the host's CPU |"));
        let of_walsender = &job["shares_of_walsender"];
        if of_walsender.as_array().is_some_and(|parts| !parts.is_empty()) {
            out.push('\n');
            out += &shares(of_walsender, &format!("| `{name}` | of the server's CPU |"));
        }
        let _ = writeln!(
            out,
            "\nThe host takes {} of the CPU that it and its servers take ({} samples of it). \
             [Flame graph](performance/flame-{name}.svg).\n",
            share(&job["host_of_both"]),
            count(number(&job["samples"])),
        );
    }
    out.truncate(out.trim_end().len());
    Some(out + "\n")
}

pub fn instructions(kept: &Value) -> String {
    let parts = kept["instructions_per_row"].as_object().into_iter().flatten();
    let rows = parts.map(|(name, value)| format!("| {name} | {} |", count(number(value))));
    table("| part | instructions per row |", rows)
}

/// What must hold, of all benchmarks.
pub fn floors(found: &[(&str, Value)]) -> String {
    let rows = found.iter().flat_map(|(name, report)| {
        let floors = report["floors"].as_array().into_iter().flatten();
        floors.map(move |floor| {
            let bound = match floor["at_least"].as_f64() {
                Some(least) => format!("at least {least}"),
                None => format!("at most {}", number(&floor["at_most"])),
            };
            let verdict = match floor["holds"].as_bool() {
                Some(true) => "yes",
                _ => "**no**",
            };
            format!(
                "| {} | {bound} | {:.2} | {verdict} | `{name}` |",
                text(&floor["what"]).replace('\\', "\\\\").replace('|', "\\|"),
                number(&floor["value"])
            )
        })
    });
    table("| what | floor | measured | held | benchmark |", rows)
}

/// Where each was measured.
pub fn machine(found: &[(&str, Value)]) -> String {
    let rows = found.iter().map(|(name, report)| {
        let machine = &report["machine"];
        let changed = if machine["changed"] == true {
            ", with changes"
        } else {
            ""
        };
        format!(
            "| `{name}` | {} | {}, {} cores, Linux {} | {} | `{}`{changed} |",
            text(&machine["date"]),
            text(&machine["cpu"]),
            machine["cores"],
            text(&machine["kernel"]),
            text(&machine["postgres"]).replace("postgres (PostgreSQL) ", ""),
            text(&machine["commit"])
        )
    });
    table("| benchmark | date | machine | PostgreSQL | commit |", rows)
}
