//! What the server's settings and the role's rights leave to be wished for.

use super::server::{Provider, Server};
use super::{Findings, Level, Request, codes};
use crate::problem::{Exit, Problem};
use crate::source::failure::{headline, shown};
use tokio_postgres::Client;

/// pgoutput came with version 10.
const VERSION_OLDEST: i32 = 100_000;
/// The oldest version that still gets fixes, and the first with protocol 2.
const VERSION_TESTED: i32 = 140_000;
/// How many slots that nobody uses are named where all are taken.
const SLOTS_NAMED: usize = 5;

pub(super) fn too_old(version: i32) -> Option<Problem> {
    (version < VERSION_OLDEST).then(|| {
        Problem::new(
            codes::SERVER_TOO_OLD,
            Exit::Preflight,
            headline(format!(
                "the server's version is {}, 10 is the oldest that works",
                major(version)
            )),
            "upgrade the server to PostgreSQL 14 or later",
        )
        .with_cause("logical decoding with pgoutput came with PostgreSQL 10")
    })
}

fn major(version: i32) -> String {
    match version >= VERSION_OLDEST {
        true => (version / 10_000).to_string(),
        false => format!("{}.{}", version / 10_000, version / 100 % 100),
    }
}

/// A host that is a pooler by its name, known before anything connects. No replication gets through one.
pub fn pooled_host(host: &str) -> Option<Problem> {
    let (label, rest) = host.split_once('.').unwrap_or((host, ""));
    let direct = label.strip_suffix("-pooler").filter(|direct| !direct.is_empty())?;
    let direct = match rest.is_empty() {
        true => direct.to_owned(),
        false => format!("{direct}.{rest}"),
    };
    Some(
        Problem::new(
            codes::POOLED_HOST,
            Exit::Preflight,
            headline(format!("host {} is a connection pooler", shown(host))),
            format!("use the direct host in source.postgres.url: `{direct}`"),
        )
        .with_cause(format!("{host} passes no replication connection on")),
    )
}

pub(super) async fn check(
    client: &Client,
    server: &Server,
    request: &Request<'_>,
    slot_exists: bool,
    findings: &mut Findings,
) -> Result<(), Box<Problem>> {
    let provider = Provider::of(request.host);
    version_and_encoding(server, findings);
    if server.in_recovery {
        findings.problem(standby());
    }
    if server.wal_level != "logical" {
        findings.problem(wal_level(&server.wal_level, provider));
    }
    if !server.may_replicate {
        findings.problem(role(server, provider));
    }
    if !slot_exists && server.replication_slots >= server.max_replication_slots {
        findings.problem(slots_taken(client, server, provider).await?);
    }
    if server.wal_senders >= server.max_wal_senders {
        findings.problem(senders_taken(server, provider));
    }
    Ok(())
}

/// The first minor version that tells transactions in progress of a publication that changes, where the server's is an
/// older one (release notes of May 2025).
fn fixed_in(version: i32) -> Option<&'static str> {
    const FIXED: [(i32, &str); 4] = [
        (140_018, "14.18"),
        (150_013, "15.13"),
        (160_009, "16.9"),
        (170_005, "17.5"),
    ];
    let of_major = |(fixed, _): &&(i32, &str)| fixed / 10_000 == version / 10_000;
    let (fixed, text) = FIXED.iter().find(of_major)?;
    (version < *fixed).then_some(*text)
}

fn version_and_encoding(server: &Server, findings: &mut Findings) {
    if server.version < VERSION_TESTED {
        findings.note(
            Level::Warning,
            codes::SERVER_OLD,
            format!(
                "the server's version is {}, tested are 14 and later",
                major(server.version)
            ),
            None,
            Some("upgrade the server to PostgreSQL 14 or later".into()),
        );
    }
    if let Some(fixed) = fixed_in(server.version) {
        findings.note(
            Level::Warning,
            codes::SERVER_OLD,
            format!(
                "the server's version is {}, which may stop sending changes of a table that comes into the publication",
                server.version_text
            ),
            Some(
                "where a transaction that had written to the table before commits behind that, the server goes by a stale \
                 list of what is published, and says nothing"
                    .into(),
            ),
            Some(format!("upgrade the server to PostgreSQL {fixed}; until then add tables while none is written to")),
        );
    }
    if server.encoding != "UTF8" {
        findings.note(
            Level::Warning,
            codes::ENCODING,
            format!(
                "the database's encoding is {}, values are sent as UTF8",
                server.encoding
            ),
            Some(match server.encoding.as_str() {
                "SQL_ASCII" => "SQL_ASCII is sent as it is: text that isn't UTF-8 is refused".into(),
                _ => "text without an equivalent in UTF-8 stops the stream".into(),
            }),
            None,
        );
    }
}

fn standby() -> Problem {
    Problem::new(
        codes::STANDBY,
        Exit::Preflight,
        "the server is a standby, the primary is needed",
        "name the primary in source.postgres.url, or add target_session_attrs=read-write",
    )
    .with_cause("pg_is_in_recovery() is true")
}

fn wal_level(found: &str, provider: Provider) -> Problem {
    let help = match provider {
        Provider::Neon => "switch it on in the Neon console: Settings, Logical Replication, Enable",
        Provider::Rds => "set rds.logical_replication = 1 in the parameter group and reboot the instance",
        Provider::Other => "`ALTER SYSTEM SET wal_level = logical;`, then restart the server",
    };
    Problem::new(
        codes::WAL_LEVEL,
        Exit::Preflight,
        format!("wal_level is `{found}`, `logical` is needed"),
        help,
    )
    .with_cause("logical decoding requires wal_level >= logical (55000); a change needs a restart")
}

fn role(server: &Server, provider: Provider) -> Problem {
    let role = &server.role_sql;
    let help = match provider {
        Provider::Neon => "use a role made in the Neon console, CLI or API: those have REPLICATION".to_owned(),
        Provider::Rds => format!("`GRANT rds_replication TO {role};`"),
        Provider::Other => format!("`ALTER ROLE {role} REPLICATION;`"),
    };
    Problem::new(
        codes::ROLE_REPLICATION,
        Exit::Preflight,
        headline(format!("role {} lacks REPLICATION", shown(&server.role))),
        help,
    )
    .with_cause("must be superuser or replication role to start walsender (42501)")
}

async fn slots_taken(client: &Client, server: &Server, provider: Provider) -> Result<Problem, Box<Problem>> {
    let idle: Vec<String> = crate::source::slot::list(client)
        .await?
        .into_iter()
        .filter(|slot| slot.active.is_none())
        .map(|slot| slot.name)
        .collect();
    let named = idle.iter().take(SLOTS_NAMED).cloned().collect::<Vec<_>>().join(", ");
    let unused = match idle.len() {
        0 => "every one of them is in use".to_owned(),
        count if count > SLOTS_NAMED => format!("{count} are not in use, {named} among them"),
        _ => format!("not in use: {named}"),
    };
    let needed = server.replication_slots + 1;
    Ok(Problem::new(
        codes::SLOTS_TAKEN,
        Exit::Preflight,
        format!(
            "max_replication_slots is {}, all are taken",
            server.max_replication_slots
        ),
        raise("max_replication_slots", needed, provider),
    )
    .with_cause(format!(
        "all replication slots are in use (53400): {} there, {needed} needed; {unused}",
        server.replication_slots
    )))
}

fn senders_taken(server: &Server, provider: Provider) -> Problem {
    let needed = server.wal_senders + 1;
    Problem::new(
        codes::SENDERS_TAKEN,
        Exit::Preflight,
        format!("max_wal_senders is {}, all are taken", server.max_wal_senders),
        raise("max_wal_senders", needed, provider),
    )
    .with_cause(format!(
        "{} WAL senders run, {needed} needed; pg_stat_replication lists them",
        server.wal_senders
    ))
}

fn raise(setting: &str, needed: i64, provider: Provider) -> String {
    match provider {
        Provider::Neon => "end a replication that is no longer used; the limit is Neon's".to_owned(),
        Provider::Rds => format!("set {setting} = {needed} in the parameter group and reboot the instance"),
        Provider::Other => format!("`ALTER SYSTEM SET {setting} = {needed};`, then restart the server"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s43_a_pooled_host_is_refused_with_the_direct_one() {
        let problem = pooled_host("ep-cool-darkness-123456-pooler.us-east-2.aws.neon.tech").unwrap();
        assert_eq!(problem.code, codes::POOLED_HOST);
        assert!(
            problem
                .help
                .contains("`ep-cool-darkness-123456.us-east-2.aws.neon.tech`")
        );
        assert!(problem.headline.chars().count() <= 80);
        for direct in [
            "ep-cool-darkness-123456.us-east-2.aws.neon.tech",
            "localhost",
            "-pooler.example.com",
        ] {
            assert_eq!(pooled_host(direct), None, "{direct}");
        }
    }

    #[test]
    fn s45_old_servers_are_refused_or_warned_of() {
        assert!(too_old(90_624).unwrap().headline.contains("9.6"));
        assert_eq!(too_old(100_000), None);
    }

    #[test]
    fn s39_the_fix_is_one_that_the_provider_allows() {
        let neon = Provider::of(Some("ep-x.aws.neon.tech"));
        assert!(wal_level("replica", neon).help.contains("Neon console"));
        assert!(wal_level("replica", Provider::of(None)).help.contains("ALTER SYSTEM"));
        assert_eq!(Provider::of(Some("db.x.eu-west-1.rds.amazonaws.com")), Provider::Rds);
        assert_eq!(Provider::of(Some("neon.tech.example.com")), Provider::Other);
    }
}
