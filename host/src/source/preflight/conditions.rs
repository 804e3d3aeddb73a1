//! `snapshot: where`: conditions that are the user's own SQL.

use super::{Findings, codes};
use crate::problem::{Exit, Problem};
use crate::source::catalog::Catalog;
use crate::source::failure::{headline, server_text, shown};
use tokio_postgres::Client;

/// Gives the tables their conditions, once the server has taken each for one.
pub(super) async fn check(
    client: &Client,
    conditions: &[(String, String)],
    catalog: &mut Catalog,
    findings: &mut Findings,
) {
    for (name, condition) in conditions {
        let Some(table) = catalog.tables.iter_mut().find(|table| table.full_name() == *name) else {
            findings.problem(Problem::new(
                codes::BAD_CONDITION,
                Exit::Preflight,
                headline(format!("`where` names {}, which isn't followed", shown(name))),
                "name a table of `source.postgres.tables`, or take the condition out",
            ));
            continue;
        };
        // Parsed, never run; a second statement is refused.
        let statement = format!("SELECT FROM {} WHERE ({condition}\n)", table.sql_name);
        if let Err(error) = client.prepare(&statement).await {
            let problem = Problem::new(
                codes::BAD_CONDITION,
                Exit::Preflight,
                headline(format!("the condition for {} can't be used", shown(name))),
                "write what could stand behind WHERE in a SELECT of this table alone",
            );
            findings.problem(problem.with_cause(server_text(&error)));
            continue;
        }
        table.condition = Some(condition.clone());
    }
}
