//! The stream over TCP through two plugins into `discard`, beside `pg_recvlogical` to /dev/null.

use crate::orders::{self, DATABASE};
use crate::report::{Bound, Floor, Side, compare, floors, store};
use crate::timed::timed;
use crate::workplace::{FILTER_AND_MASK, PGOUTPUT, Workplace, cluster, make_slot, recvlogical};
use anyhow::{Context, Result, ensure};
use rowmill_tests::Cluster;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Options {
    pub rowmill: PathBuf,
    pub rows: u64,
    pub transaction: u64,
    pub pairs: usize,
    pub tls: bool,
    pub postgres: Option<u32>,
}

pub fn run(options: &Options) -> Result<()> {
    let certificate = tempfile::tempdir()?;
    let settings = match options.tls {
        true => tls_settings(certificate.path())?,
        false => vec![],
    };
    let cluster = cluster(&settings.iter().map(String::as_str).collect::<Vec<_>>())?;
    require_version(&cluster, options.postgres)?;
    orders::create(&cluster)?;
    // All slots before the first row, so that every run reads the same WAL.
    for pair in 0..=options.pairs {
        for side in ["peer", "rowmill"] {
            make_slot(&cluster, &format!("{side}_{pair}"), "pgoutput")?;
        }
    }
    let end = orders::load(&cluster, options.rows, options.transaction)?;
    let place = Workplace::new(&options.rowmill)?;
    let mut ours = Side::new("rowmill, filter + mask, discard");
    let mut theirs = Side::new("pg_recvlogical to /dev/null");
    let last = options.pairs;
    timed(&mut rowmill(&place, &cluster, last, options.tls)?, &cluster)
        .with_context(|| place.log(&format!("bench_{last}")))?;
    place.keep_compiled(&format!("bench_{last}"))?;
    for pair in 0..options.pairs {
        let slot = format!("peer_{pair}");
        let mut peer = recvlogical(&cluster, &slot, &end, &PGOUTPUT, Path::new("/dev/null"));
        if options.tls {
            peer.env("PGSSLMODE", "require");
        }
        theirs.runs.push(timed(&mut peer, &cluster)?);
        ours.runs
            .push(timed(&mut rowmill(&place, &cluster, pair, options.tls)?, &cluster)?);
        let (our, their) = (ours.runs[pair], theirs.runs[pair]);
        println!(
            "pair {pair}: rowmill {:.2} s, pg_recvlogical {:.2} s",
            our.seconds, their.seconds
        );
    }
    let mut name = "stream".to_owned();
    if let Some(version) = options.postgres {
        name += &format!("-{version}");
    }
    if options.tls {
        name += "-tls";
    }
    let compared = compare(&name, options.rows, &ours, &theirs);
    let cpu = ours.cpu_per_million(options.rows);
    let rate_floor = format!("{name}, rate beside pg_recvlogical");
    let cpu_floor = format!("{name}, CPU s of the host per million rows");
    let mut held = vec![Floor::new(&rate_floor, compared.rate, Bound::AtLeast(2.0))];
    if !options.tls {
        // What decrypting takes isn't the host's to win.
        held.push(Floor::new(&cpu_floor, cpu, Bound::AtMost(0.8)));
    }
    let floors = floors(&held);
    let about = json!({"cases": [compared.value], "floors": floors, "rows_per_transaction": options.transaction});
    store(&name, about)
}

/// Fails where the server is of another major version than the one that is asked for.
pub fn require_version(cluster: &Cluster, wanted: Option<u32>) -> Result<()> {
    let version = cluster.sql("postgres", "SHOW server_version_num")?;
    let is_wanted = wanted.is_none_or(|wanted| version.starts_with(&wanted.to_string()));
    let wanted = wanted.unwrap_or_default();
    ensure!(
        is_wanted,
        "this is PostgreSQL {version}: `cargo xtask bench` installs {wanted} and says where it is in PG_BIN"
    );
    Ok(())
}

/// A certificate of its own, and the settings that make the server use it.
pub fn tls_settings(folder: &Path) -> Result<Vec<String>> {
    let script = "chmod 755 . && openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key -out crt \
        2>errors && chmod 600 key && if [ $(id -u) = 0 ]; then chown postgres key; fi";
    let status = Command::new("sh").args(["-c", script]).current_dir(folder).status()?;
    ensure!(status.success(), "openssl");
    let path = |name: &str| folder.join(name).display().to_string();
    Ok(vec![
        "ssl=on".into(),
        format!("ssl_cert_file='{}'", path("crt")),
        format!("ssl_key_file='{}'", path("key")),
    ])
}

fn rowmill(place: &Workplace, cluster: &Cluster, pair: usize, tls: bool) -> Result<Command> {
    let mode = if tls { "require" } else { "disable" };
    let url = format!("{}?sslmode={mode}", cluster.url(DATABASE));
    let rest = format!(
        "source:
  postgres: {{ url: \"{url}\", publication: bench, slot: rowmill_{pair}, snapshot: never }}
{FILTER_AND_MASK}routes:
  - {{ tables: [public.orders], plugins: [paid-only, mask-pii], sinks: [nowhere] }}
sinks:
  nowhere: {{ discard: {{}} }}
"
    );
    let mut command = place.run(&format!("bench_{pair}"), &rest)?;
    command.arg("--once");
    Ok(command)
}
