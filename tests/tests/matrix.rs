//! docs/explanation/failure-modes.md has every row of the fault matrix, and the tests that it names are there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Rows of each class.
const CLASSES: [(char, usize); 6] = [('S', 46), ('P', 26), ('K', 17), ('H', 18), ('C', 12), ('X', 12)];

#[test]
fn every_fault_has_its_row_and_every_test_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/explanation/failure-modes.md")).unwrap();
    let mut functions = BTreeSet::new();
    for folder in ["host", "tests", "plugin-sdk", "plugins"] {
        collect(&root.join(folder), &mut functions);
    }
    let (mut rows, mut covered, mut missing) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, id, _, _, tests, _] = cells[..] else {
            continue;
        };
        let Some(class) = id.chars().next().filter(|_| id[1..].parse::<usize>().is_ok()) else {
            continue;
        };
        assert!(rows.insert(id.to_owned(), class).is_none(), "{id} is there twice");
        let named: Vec<&str> = tests.split('`').filter(|name| name.contains('_')).collect();
        let is_manual = tests.starts_with("manual: ");
        assert!(is_manual || !named.is_empty() || tests == "none yet", "{id}: {tests}");
        let named = if is_manual { Vec::new() } else { named };
        if named.is_empty() {
            println!("{id}: {tests}");
        }
        *covered.entry(class).or_insert(0) += usize::from(!named.is_empty());
        missing.extend(
            named
                .into_iter()
                .filter(|name| !functions.contains(*name))
                .map(|name| format!("{id}: {name}")),
        );
    }
    assert!(missing.is_empty(), "tests that aren't there: {missing:#?}");
    for (class, count) in CLASSES {
        for number in 1..=count {
            assert!(
                rows.contains_key(&format!("{class}{number}")),
                "{class}{number} has no row"
            );
        }
        println!("{class}: {} of {count} rows have a test", covered[&class]);
    }
}

/// The names of all functions under a folder.
fn collect(folder: &Path, functions: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with("node_modules") {
            collect(&path, functions);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            // A function with the attribute in front of it, comments and other attributes in between.
            for behind in text.split("test]").skip(1) {
                let Some((between, name)) = behind.split_once("fn ") else {
                    continue;
                };
                if between
                    .lines()
                    .all(|line| line.trim().is_empty() || line.trim().starts_with(['#', '/', 'a']))
                {
                    functions.insert(name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
                }
            }
            // Tests that a macro of the file makes of a list of names.
            if text.contains("golden! {") || path.components().any(|part| part.as_os_str() == "hostile_plugins") {
                let names = text
                    .lines()
                    .filter_map(|line| line.trim().split([':', '(', ',', ' ', '=']).next());
                functions.extend(names.filter(|name| name.contains('_')).map(str::to_owned));
            }
        }
    }
}
