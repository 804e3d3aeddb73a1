//! The publication: the one to adopt, or the one that would be made.

use super::{Findings, Level, Request, Server, codes};
use crate::problem::Problem;
use crate::source::catalog::Catalog;
use crate::source::failure::shown;
use crate::source::publication::{self, PublicationState};
use tokio_postgres::Client;

/// Which changes will be published: an identity is needed for the last two only.
#[derive(Clone, Copy)]
pub(super) struct Operations {
    pub(super) updates_or_deletes: bool,
}

pub(super) async fn check(
    client: &Client,
    server: &Server,
    request: &Request<'_>,
    catalog: &Catalog,
    findings: &mut Findings,
) -> Result<Operations, Box<Problem>> {
    let name = publication::name(request.pipeline, request.publication);
    let state = publication::state(client, &name).await?;
    let Some(state) = state else {
        match request.publication {
            Some(_) => findings.problem(publication::missing(&name, &catalog.tables)),
            None => check_creation(server, &name, catalog, findings),
        }
        return Ok(Operations {
            updates_or_deletes: true,
        });
    };
    match request.publication {
        Some(_) => findings.problems.extend(publication::lacks(&state, &catalog.tables)),
        None if request.adjusts => {
            let statements = publication::adjustment(&state, &catalog.tables);
            findings.problems.extend(statements.err());
        }
        None => findings.problems.extend(publication::differs(&state, &catalog.tables)),
    }
    note(&state, catalog, request.publication.is_some(), findings);
    Ok(Operations {
        updates_or_deletes: state.updates || state.deletes,
    })
}

fn check_creation(server: &Server, name: &str, catalog: &Catalog, findings: &mut Findings) {
    let foreign: Vec<&str> = catalog
        .tables
        .iter()
        .filter(|table| !table.owned)
        .map(|table| table.sql_name.as_str())
        .collect();
    if catalog.tables.is_empty() || server.superuser || (server.may_create && foreign.is_empty()) {
        return;
    }
    let cause = match foreign.is_empty() {
        true => format!("permission denied for database {} (42501)", server.database),
        false => format!(
            "role {} is not the owner of {} (42501)",
            server.role,
            foreign.join(", ")
        ),
    };
    let statement = publication::create_statement(name, &catalog.tables);
    findings.problem(publication::denied(name, &statement).with_cause(cause));
}

fn note(state: &PublicationState, catalog: &Catalog, adopted: bool, findings: &mut Findings) {
    let name = shown(&state.sql_name);
    let operations = [
        (state.inserts, "insert"),
        (state.updates, "update"),
        (state.deletes, "delete"),
        (state.truncates, "truncate"),
    ];
    let absent: Vec<&str> = operations.iter().filter(|(on, _)| !on).map(|(_, name)| *name).collect();
    if !absent.is_empty() {
        findings.note(
            Level::Warning,
            codes::PUBLICATION_OPERATIONS,
            format!("publication {name} leaves out: {}", absent.join(", ")),
            Some("what it leaves out never reaches a sink".into()),
            Some(format!(
                "`ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate');`",
                state.sql_name
            )),
        );
    }
    let selected = |oid| catalog.tables.iter().any(|table| table.oid == oid);
    let listed = |of: fn(&publication::Published) -> bool| {
        let names: Vec<&str> = state
            .tables
            .iter()
            .filter(|table| of(table) && selected(table.oid))
            .map(|table| table.sql_name.as_str())
            .collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    if let Some(tables) = listed(|table| table.row_filter.is_some()) {
        let text = format!("publication {name} has row filters: only matching rows flow");
        findings.note(Level::Warning, codes::ROW_FILTER, text, Some(tables), None);
    }
    if let Some(tables) = listed(|table| table.column_list.is_some()) {
        let text = format!("publication {name} has column lists: the others never flow");
        findings.note(Level::Warning, codes::COLUMN_LIST, text, Some(tables), None);
    }
    let extra: Vec<&str> = publication::extra(state, &catalog.tables)
        .map(|table| table.sql_name.as_str())
        .collect();
    if adopted && !extra.is_empty() {
        let text = format!("publication {name} sends {} tables not selected", extra.len());
        findings.note(
            Level::Info,
            codes::PUBLICATION_EXTRA,
            text,
            Some(extra.join(", ")),
            None,
        );
    }
}
