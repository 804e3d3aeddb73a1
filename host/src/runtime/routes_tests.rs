use super::*;
use crate::checkpoint::PluginVersion;
use crate::config;

/// Plugins and sinks of a route.
type Spec<'a> = (&'a [&'a str], &'a [&'a str]);

const MASKED: Spec<'static> = (&["mask"], &["feed"]);
const PLAIN: Spec<'static> = (&[], &["warehouse"]);
const ENRICHED: Spec<'static> = (&["enrich"], &["search"]);

fn routes(specs: &[Spec<'_>]) -> Vec<Route> {
    let route = |(plugins, sinks): &Spec<'_>| Route {
        tables: vec![config::TablePattern {
            schema: "public".into(),
            table: "a".into(),
        }],
        columns: None,
        on_new_column: config::OnNewColumn::Pass,
        on_schema_change: config::OnSchemaChange::Evolve,
        filter: config::FilterMode::Membership,
        plugins: plugins.iter().map(|name| (*name).to_owned()).collect(),
        sinks: sinks.iter().map(|name| (*name).to_owned()).collect(),
        known_as: None,
    };
    specs.iter().map(route).collect()
}

/// A session with these routes behind those of which `known` is known.
fn after(known: &[KnownRoute], specs: &[Spec<'_>]) -> (Vec<String>, Vec<KnownRoute>) {
    let routes = routes(specs);
    let names = names(&routes, known);
    let fresh = routes
        .iter()
        .zip(&names)
        .map(|(route, name)| of_route(route, name.clone()));
    let noted = noted(fresh.collect(), known);
    (names, noted)
}

/// The names of the last of several sessions, without the table's.
fn named(sessions: &[&[Spec<'_>]]) -> Vec<String> {
    let mut known = Vec::new();
    let mut last = Vec::new();
    for specs in sessions {
        (last, known) = after(&known, specs);
    }
    last.iter().map(|name| name.replace("public.a", "")).collect()
}

#[test]
fn a_route_keeps_its_name_wherever_it_stands() {
    let all = [MASKED, PLAIN, ENRICHED];
    assert_eq!(named(&[&all]), ["", "#2", "#3"]);
    assert_eq!(named(&[&all, &[ENRICHED, MASKED, PLAIN]]), ["#3", "", "#2"]);
    assert_eq!(
        named(&[&all, &[PLAIN, ENRICHED]]),
        ["#2", "#3"],
        "the first one has gone"
    );
    assert_eq!(named(&[&all, &[PLAIN], &[PLAIN, MASKED]]), ["#2", ""], "and comes back");
    let new: Spec<'_> = (&[], &["other"]);
    assert_eq!(named(&[&all, &[new, ENRICHED, PLAIN, MASKED]]), ["#4", "#3", "#2", ""]);
    assert_eq!(
        named(&[&all, &[PLAIN], &[PLAIN, new]]),
        ["#2", "#4"],
        "a name that none has had"
    );
}

#[test]
fn one_that_is_changed_while_it_moves_is_known_by_what_is_left_of_it() {
    let both = [MASKED, PLAIN];
    let with_plugin: Spec<'_> = (&["enrich"], &["warehouse"]);
    assert_eq!(named(&[&both, &[with_plugin, MASKED]]), ["#2", ""]);
    let more_sinks: Spec<'_> = (&["mask"], &["feed", "search"]);
    assert_eq!(named(&[&both, &[PLAIN, more_sinks]]), ["#2", ""]);
    let other_sink: Spec<'_> = (&["mask"], &["search"]);
    assert_eq!(named(&[&both, &[PLAIN, other_sink]]), ["#2", ""]);
    let all_else: Spec<'_> = (&["enrich"], &["search"]);
    assert_eq!(
        named(&[&both, &[all_else, MASKED]]),
        ["#2", ""],
        "the only one that is left"
    );
    let two: [Spec<'_>; 2] = [all_else, (&[], &["other"])];
    assert_eq!(named(&[&both, &two]), ["#3", "#4"], "who knows which is which");
    assert_eq!(named(&[&[MASKED], &[all_else]]), [""], "there is no other");
    assert_eq!(named(&[&[MASKED], &[PLAIN, MASKED]]), ["#2", ""]);
    // The plugins have changed places: what a sink has got tells.
    let turned: [Spec<'_>; 2] = [(&[], &["feed"]), (&["mask"], &["warehouse"])];
    assert_eq!(named(&[&both, &turned]), ["", "#2"]);
}

#[test]
fn a_sink_has_come_where_the_last_session_sent_it_nothing() {
    let (_, known) = after(&[], &[MASKED, PLAIN]);
    let come = |specs: &[Spec<'_>]| {
        let (names, _) = after(&known, specs);
        let routes = routes(specs).into_iter().zip(names);
        let fresh = routes.map(|(route, name)| of_route(&route, name));
        fresh.map(|fresh| sinks_have_come(&fresh, &known)).collect::<Vec<_>>()
    };
    assert_eq!(come(&[PLAIN, MASKED]), [false, false]);
    let more: Spec<'_> = (&[], &["warehouse", "feed"]);
    assert_eq!(come(&[MASKED, more]), [false, true]);
    let (_, known) = after(&known, &[PLAIN]);
    let (_, back) = after(&known, &[PLAIN, MASKED]);
    assert!(sinks_have_come(&back[1], &known), "it had none of the rows meanwhile");
}

fn version(module: &str, fallback: Option<&str>) -> ChainVersion {
    let plugins = |module: &str| {
        vec![PluginVersion {
            name: "mask".into(),
            module: module.into(),
            config: String::new(),
            written: serde_json::Value::Null,
            limits: serde_json::Value::Null,
        }]
    };
    ChainVersion {
        plugins: plugins(module),
        fallback: fallback.map(plugins),
        went_back: false,
    }
}

#[test]
fn nothing_that_was_recorded_counts_for_a_sink_that_has_come() {
    let (old, new, watched) = (version("a", None), version("b", None), version("b", Some("a")));
    let started = |recorded: &[(u64, &ChainVersion)], start| {
        let recorded: Vec<(Lsn, ChainVersion)> =
            recorded.iter().map(|(from, of)| (Lsn(*from), (*of).clone())).collect();
        in_place_of(&recorded, new.clone(), Lsn(start))
    };
    assert_eq!(started(&[], 40), None, "it counts from its start anyway");
    assert_eq!(started(&[(10, &new)], 40), None);
    assert_eq!(
        started(&[(10, &old), (30, &new)], 40),
        None,
        "what came before has arrived"
    );
    assert_eq!(started(&[(10, &old)], 40), Some(new.clone()));
    assert_eq!(started(&[(10, &old), (50, &new)], 40), Some(new.clone()));
    assert_eq!(
        started(&[(10, &old), (30, &watched)], 40),
        Some(new.clone()),
        "there is no way back"
    );
    let back = ChainVersion {
        went_back: true,
        ..old.clone()
    };
    let state_of_before = started(&[(10, &new), (30, &back)], 40).unwrap();
    assert!(state_of_before.went_back && state_of_before.is_same(&new));
}
