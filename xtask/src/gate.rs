//! The regression gate: instructions of fixed inputs through each part of a row's way, beside those in the repository.
//!
//! Instructions don't depend on how busy a machine is, nor much on which it is: callgrind shows every x86-64 processor
//! of the last ten years as the same one. What does change them is another compiler, another wasmtime, or our code.

use crate::run::{answers, command, root};
use crate::{bench, install};
use anyhow::{Context, Result, ensure};
use serde_json::{Map, json};

/// What a part may take more than the file says.
const WORSE_MAX: f64 = 0.05;
const FILE: &str = "bench/instructions.json";
/// The counted function of `bench/src/counted.rs`.
const COUNTED: &str = "rowmill_counted";

/// Counts, and compares with the file or, with `bless`, replaces it.
pub fn gate(bless: bool) -> Result<()> {
    if !answers("valgrind", &["--version"]) {
        println!("valgrind is missing: installing Debian's package valgrind");
        install::debian(&["valgrind"])?;
    }
    bench::build()?;
    let path = root().join(FILE);
    let kept = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).context(FILE)?,
        Err(_) => json!({}),
    };
    let mut counted = Map::new();
    let mut worse = Vec::new();
    println!(
        "{:<16} {:>12} {:>12} {:>8}",
        "instructions/row", "now", "kept", "change"
    );
    for name in names()? {
        let now = instructions(&name)?;
        let before = kept["instructions_per_row"][&name].as_f64();
        let change = before.map(|before| now / before - 1.0);
        let shown = |value: Option<f64>, decimals| value.map_or("-".into(), |value| format!("{value:.decimals$}"));
        println!(
            "{name:<16} {now:>12.1} {:>12} {:>7}%",
            shown(before, 1),
            shown(change.map(|change| change * 100.0), 1)
        );
        if change.is_none_or(|change| change > WORSE_MAX) {
            worse.push(name.clone());
        }
        counted.insert(name, json!((now * 10.0).round() / 10.0));
    }
    if bless {
        let text = serde_json::to_string_pretty(&json!({
            "compiler": said("rustc", &["--version"])?,
            "instructions_per_row": counted,
        }))?;
        std::fs::write(&path, text + "\n")?;
        println!("{FILE} written");
        return Ok(());
    }
    ensure!(
        worse.is_empty(),
        "more than {:.0} % above {FILE}, or not in it: {}. Mend it, or give the reason in the commit that carries \
         `cargo xtask gate --bless`",
        WORSE_MAX * 100.0,
        worse.join(", ")
    );
    Ok(())
}

fn names() -> Result<Vec<String>> {
    Ok(said("target/release/rowmill-bench", &["counted"])?
        .lines()
        .map(str::to_owned)
        .collect())
}

/// Of one row, all calls below the counted function included, compiled guests too.
fn instructions(name: &str) -> Result<f64> {
    let out = root().join("target/bench/callgrind.out");
    std::fs::create_dir_all(root().join("target/bench"))?;
    let file = format!("--callgrind-out-file={}", out.display());
    let toggle = format!("--toggle-collect={COUNTED}");
    let mut command = command("valgrind", &["--quiet", "--tool=callgrind", &file, &toggle]);
    // Threads that wait would be counted as they are scheduled; the part runs on the main one.
    command.args(["--collect-jumps=no", "target/release/rowmill-bench", "counted", name]);
    let output = command.output().context("valgrind")?;
    ensure!(
        output.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let rows: f64 = String::from_utf8(output.stdout)?.trim().parse().context("the rows")?;
    let profile = std::fs::read_to_string(&out)?;
    std::fs::remove_file(&out)?;
    let total = profile.lines().find_map(|line| line.strip_prefix("totals: "));
    let total: f64 = total.context("callgrind gave no totals")?.trim().parse()?;
    ensure!(total > 0.0, "{name}: callgrind didn't see {COUNTED}");
    Ok(total / rows)
}

/// What a program prints.
fn said(program: &str, arguments: &[&str]) -> Result<String> {
    let output = command(program, arguments)
        .output()
        .with_context(|| program.to_owned())?;
    ensure!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
