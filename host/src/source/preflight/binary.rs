//! `binary: true`: a server that can, and columns whose types can be read.

use super::{Findings, Request, Server, codes};
use crate::decode::Types;
use crate::problem::{Exit, Problem};
use crate::source::catalog::{self, Catalog};
use crate::source::failure::{headline, shown};
use std::collections::HashSet;
use std::sync::Arc;
use tokio_postgres::Client;

/// pgoutput's option came with it.
const VERSION_14: i32 = 140_000;
/// Columns named in one message.
const NAMED_MAX: usize = 10;

/// The types of the database where values come in binary form; `None` where they don't, or can't.
pub(super) async fn check(
    client: &Client,
    server: &Server,
    request: &Request<'_>,
    catalog: &Catalog,
    findings: &mut Findings,
) -> Result<Option<Arc<Types>>, Box<Problem>> {
    if !request.binary {
        return Ok(None);
    }
    if server.version < VERSION_14 {
        findings.problem(too_old(server));
        return Ok(None);
    }
    let types = catalog::types(client, server.version).await?;
    findings.problems.extend(match request.publication {
        // It sends all of its tables, those too that aren't selected.
        Some(name) => unreadable(&types, &[catalog, &catalog::read_publication(client, name).await?]),
        None => unreadable(&types, &[catalog]),
    });
    Ok(Some(Arc::new(types)))
}

fn too_old(server: &Server) -> Problem {
    let help = "remove `binary: true` from source.postgres, or upgrade the server to PostgreSQL 14 or later";
    let headline = "the server streams no values in binary form";
    Problem::new(codes::BINARY, Exit::Preflight, headline, help).with_cause(format!(
        "it is PostgreSQL {}; `binary` came with version 14",
        server.version_text
    ))
}

/// All of them in one problem. A binary stream is so for every table of it.
fn unreadable(types: &Types, catalogs: &[&Catalog]) -> Option<Problem> {
    let mut named = Vec::new();
    let mut first = None;
    let mut count = 0;
    let mut seen = HashSet::new();
    let tables = catalogs.iter().flat_map(|catalog| &catalog.tables);
    for table in tables.filter(|table| seen.insert(table.oid)) {
        for column in table.columns.iter().filter(|column| !column.withheld) {
            let Some(within) = types.unreadable(column.type_oid) else {
                continue;
            };
            count += 1;
            let name = format!("{}.{}", table.full_name(), column.name);
            let of = &column.type_name;
            if named.len() < NAMED_MAX {
                named.push(match within == column.type_oid {
                    true => format!("{name} ({of})"),
                    false => format!("{name} ({of}, which holds {})", types.name(within)),
                });
            }
            first.get_or_insert_with(|| (name, of.clone()));
        }
    }
    let (name, of) = first?;
    let headline = match count {
        1 => headline(format!(
            "column {} is of type {of}, not read in binary form",
            shown(&name)
        )),
        count => format!("{count} columns are of types that are not read in binary form"),
    };
    let help = "remove `binary: true` from source.postgres: as text, every type is read";
    let more = if count > named.len() { ", ..." } else { "" };
    Some(
        Problem::new(codes::BINARY, Exit::Preflight, headline, help).with_cause(format!(
            "their text can't be told from what the server sends: {}{more}",
            named.join(", ")
        )),
    )
}
