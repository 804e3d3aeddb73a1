//! What of a changed pipeline.yaml the running session takes up by itself: the stream goes on, on the connection that it has.
//!
//! More tables for routes that are there, the columns that a route lets out and what it does with new and altered ones, and
//! what the file says of one plugin. All of it counts between two transactions. Anything else changes what a session is made
//! of (its sinks, lanes, the order of its routes): the running one ends in order, and another one begins.

use super::modules::Taken;
use super::process::Process;
use crate::config::{Pipeline, Route};
use crate::pipeline::{Input, route_names};
use std::sync::Arc;

#[derive(Default)]
pub(super) struct Live {
    pub(super) tables: bool,
    /// Tried as a changed module is.
    pub(super) plugin: Option<Taken>,
    /// With their indexes, which are the running session's.
    pub(super) routes: Vec<(usize, Arc<Route>)>,
}

/// `None` where the changes need another session. `taken` has the plugins of the new file.
pub(super) fn of(running: &Pipeline, fresh: &Pipeline, changes: &[String], taken: &[Taken]) -> Option<Live> {
    let names = route_names(&running.routes);
    let sinks = |pipeline: &Pipeline| pipeline.sinks.iter().map(|sink| sink.name.clone()).collect::<Vec<_>>();
    // The session knows both by their places.
    if names != route_names(&fresh.routes) || sinks(running) != sinks(fresh) {
        return None;
    }
    let mut live = Live::default();
    for change in changes {
        if change.starts_with("+ table ") {
            live.tables = true;
        } else if let Some(name) = change.strip_prefix("~ plugin ") {
            let taken = taken.iter().find(|taken| taken.plugin.name == name)?;
            let before = running.plugins.iter().find(|plugin| plugin.name == name)?;
            // Two that change together may only be right together, and each is tried by itself.
            if live.plugin.is_some() || before.module != taken.plugin.module {
                return None;
            }
            live.plugin = Some(taken.clone());
        } else if let Some(name) = change.strip_prefix("~ route ") {
            let at = names.iter().position(|of| of == name)?;
            let (before, after) = (&running.routes[at], &fresh.routes[at]);
            if !differ_in_columns_alone(before, after) {
                return None;
            }
            live.routes.push((at, Arc::new(after.clone())));
        } else {
            return None;
        }
    }
    Some(live)
}

fn differ_in_columns_alone(before: &Route, after: &Route) -> bool {
    let rest = |route: &Route| {
        let Route {
            tables,
            columns: _,
            on_new_column: _,
            on_schema_change: _,
            filter,
            plugins,
            sinks,
            known_as: _,
        } = route;
        format!("{tables:?} {filter:?} {plugins:?} {sinks:?}")
    };
    rest(before) == rest(after)
}

/// To be called once the new file counts: a session that begins from now on has it.
pub(super) fn hand_over(process: &Process, live: Live) {
    if live.tables {
        process.asked_for_copies.notify_one();
    }
    if live.routes.is_empty() || process.modules.hand_over(Input::Routes(live.routes)) {
        return;
    }
    // One that begins just now may have read the file that it was.
    process.begin_again("pipeline.yaml has changed while a session began");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn pipeline(text: &str) -> Pipeline {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pipeline.yaml");
        std::fs::write(&file, text).unwrap();
        config::load(&file).unwrap()
    }

    const FILE: &str = "name: shop
source: { postgres: { url: postgresql://localhost/source, tables: [public.a, public.b] } }
routes:
  - { tables: [public.a], columns: [id], sinks: [one] }
  - { tables: [public.b], sinks: [one, other] }
sinks: { one: stdout, other: discard }
";

    fn live(before: &str, after: &str, changes: &[&str]) -> Option<Vec<usize>> {
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        let live = of(&pipeline(before), &pipeline(after), &changes, &[])?;
        Some(live.routes.iter().map(|(at, _)| *at).collect())
    }

    #[test]
    fn what_a_session_is_made_of_needs_another() {
        let columns = FILE.replace("columns: [id]", "columns: [id, v]");
        assert_eq!(live(FILE, &columns, &["~ route public.a"]), Some(vec![0]));
        let columns = FILE.replace("public.b], sinks", "public.b], on_schema_change: stop, sinks");
        assert_eq!(
            live(FILE, &columns, &["~ route public.b", "+ table public.c"]),
            Some(vec![1])
        );
        let sinks = FILE.replace("sinks: [one, other]", "sinks: [one]");
        assert_eq!(live(FILE, &sinks, &["~ route public.b"]), None);
        assert_eq!(live(FILE, FILE, &["~ lanes"]), None);
        assert_eq!(live(FILE, FILE, &["- table public.b"]), None);
        let turned = FILE.replace("one: stdout, other: discard", "other: discard, one: stdout");
        assert_eq!(
            live(FILE, &turned, &["+ table public.c"]),
            None,
            "the session knows sinks by place"
        );
    }
    #[test]
    fn routes_with_the_same_tables_are_told_apart() {
        let both = FILE.replace("tables: [public.b], sinks", "tables: [public.a], sinks");
        let columns = both.replace("public.a], sinks", "public.a], columns: [id], sinks");
        assert_eq!(live(&both, &columns, &["~ route public.a#2"]), Some(vec![1]));
        let sinks = both.replace("sinks: [one, other]", "sinks: [one]");
        assert_eq!(live(&both, &sinks, &["~ route public.a#2"]), None);
    }
}
