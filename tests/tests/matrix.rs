//! docs/explanation/failure-modes.md has every row of the fault matrix, whole; the tests and codes that it names are
//! there, and each row that has tests has one that is named after it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Rows of each class.
const CLASSES: [(char, usize); 6] = [('S', 46), ('P', 26), ('K', 17), ('H', 18), ('C', 12), ('X', 12)];
const HEADER: &str = "| | fault | what Rowmill does | what you do | tests |";

struct Row<'a> {
    id: &'a str,
    tests: &'a str,
}

impl Row<'_> {
    fn class(&self) -> char {
        self.id.chars().next().unwrap()
    }

    fn is_manual(&self) -> bool {
        self.tests.starts_with("manual: ")
    }

    fn named(&self) -> Vec<&str> {
        match self.is_manual() {
            true => Vec::new(),
            false => self.tests.split('`').filter(|name| name.contains('_')).collect(),
        }
    }

    /// Whether the name begins with the row's id, among others: `s3_s4_cut_at_random_bytes`.
    fn gives_its_name_to(&self, test: &str) -> bool {
        let id = self.id.to_lowercase();
        test.split('_').take_while(|word| is_id(word)).any(|word| word == id)
    }
}

/// A letter and a number.
fn is_id(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_alphabetic()) && word[1..].parse::<usize>().is_ok()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/explanation/failure-modes.md")).unwrap()
}

/// The matrix. Each of its lines has all columns, and something in each.
fn rows(page: &str) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let Some(id) = cells.get(1).copied().filter(|id| is_id(id)) else {
            continue;
        };
        let ["", _, fault, does, you_do, tests, ""] = cells[..] else {
            panic!("not the columns of `{HEADER}`: {line}");
        };
        for cell in [fault, does, you_do, tests] {
            assert!(!cell.is_empty(), "{id} has an empty cell");
        }
        rows.push(Row { id, tests });
    }
    rows
}

#[test]
fn every_fault_has_its_row_and_every_test_is_there() {
    let mut functions = BTreeSet::new();
    for folder in ["host", "tests", "plugin-sdk", "plugins"] {
        collect(&root().join(folder), &mut functions);
    }
    let page = page();
    assert_eq!(page.lines().filter(|line| *line == HEADER).count(), CLASSES.len());
    let (mut ids, mut covered, mut wrong) = (BTreeSet::new(), BTreeMap::new(), Vec::new());
    for row in rows(&page) {
        assert!(ids.insert(row.id.to_owned()), "{} is there twice", row.id);
        let named = row.named();
        if named.is_empty() {
            assert!(row.is_manual() || row.tests == "none yet", "{}: {}", row.id, row.tests);
            println!("{}: {}", row.id, row.tests);
        } else if !named.iter().any(|name| row.gives_its_name_to(name)) {
            wrong.push(format!("{}: none of its tests begins with its id", row.id));
        }
        *covered.entry(row.class()).or_insert(0) += usize::from(!named.is_empty());
        let missing = named.into_iter().filter(|name| !functions.contains(*name));
        wrong.extend(missing.map(|name| format!("{}: {name} isn't there", row.id)));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (class, count) in CLASSES {
        for number in 1..=count {
            assert!(ids.contains(&format!("{class}{number}")), "{class}{number} has no row");
        }
        println!("{class}: {} of {count} rows have a test", covered[&class]);
    }
}

#[test]
fn every_code_is_one_of_the_errors() {
    let errors = std::fs::read_to_string(root().join("docs/reference/errors.md")).unwrap();
    let page = page();
    let words = page.split(|c: char| !c.is_ascii_alphanumeric());
    let codes: BTreeSet<&str> = words
        .filter(|word| word.len() == 5 && word.starts_with('E') && is_id(word))
        .collect();
    assert!(codes.len() > 50, "{codes:?}");
    for code in codes {
        assert!(errors.contains(&format!("\n## {code}: ")), "{code} is not in errors.md");
    }
}

#[test]
fn a_row_gives_its_name_to_a_test_by_its_id_alone() {
    let row = |id| Row { id, tests: "" };
    assert!(row("S4").gives_its_name_to("s3_s4_cut_at_random_bytes_under_load"));
    assert!(!row("S1").gives_its_name_to("s14_a_restart"));
    assert!(!row("S1").gives_its_name_to("a_restart_as_s1_has_it"));
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
