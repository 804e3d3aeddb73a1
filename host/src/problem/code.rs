//! The list of everything that can go wrong: docs/reference/errors.md is made from it.

/// An entry of the list. A code is never given to something else later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// `E` and four digits.
    pub code: &'static str,
    /// A few words, as a heading.
    pub title: &'static str,
    /// Why it happens and what can be done, in a paragraph.
    pub explanation: &'static str,
}

/// Every stage has a list of its own, `CODES`, and is named here; the source's is [`preflight`].
const STAGES: &[&[Code]] = &[
    crate::config::CODES,
    crate::postgres::CODES,
    crate::snapshot::CODES,
    crate::plugin::CODES,
    #[cfg(feature = "engine")]
    crate::pipeline::CODES,
    crate::sink::CODES,
    crate::checkpoint::CODES,
    crate::dead_letter::CODES,
    #[cfg(feature = "engine")]
    crate::runtime::CODES,
    crate::console::CODES,
    #[cfg(feature = "engine")]
    crate::demo::CODES,
    #[cfg(feature = "engine")]
    crate::cli::CODES,
    #[cfg(feature = "engine")]
    crate::plugin_tools::CODES,
    #[cfg(feature = "engine")]
    crate::cli::PLUGIN_CODES,
];

/// All codes, ascending.
pub fn codes() -> Vec<Code> {
    let mut codes = STAGES.concat();
    codes.extend(crate::source::preflight::codes::ALL.iter().map(preflight));
    codes.sort_by_key(|code| code.code);
    codes
}

/// What preflight finds is said in one sentence; its fix depends on the database and comes with the problem.
fn preflight(&(code, sentence): &(&'static str, &'static str)) -> Code {
    let sentence = sentence.trim();
    // Not within what is written as code.
    let mut quoted = false;
    let end = sentence.find(|letter| {
        quoted ^= letter == '`';
        !quoted && [':', ',', ';'].contains(&letter)
    });
    let end = end.unwrap_or(sentence.len() - 1);
    Code {
        code,
        title: &sentence[..end],
        explanation: sentence,
    }
}

/// What goes for all that preflight finds.
fn remark(code: &str) -> &'static str {
    if !crate::source::preflight::codes::ALL
        .iter()
        .any(|(known, _)| *known == code)
    {
        ""
    } else if crate::source::preflight::codes::NOTICES.contains(&code) {
        " A notice: it stops nothing."
    } else {
        " Found before anything is made at the server; the help names the statement that cures it."
    }
}

/// The text of docs/reference/errors.md.
pub fn reference() -> String {
    let mut text = String::from("# Errors\n\nEvery error names its code; this is what each of them means.\n");
    for Code {
        code,
        title,
        explanation,
    } in codes()
    {
        let anchor = code.to_lowercase();
        text.push_str(&format!(
            "\n<a id=\"{anchor}\"></a>\n\n## {code}: {title}\n\n{explanation}{}\n",
            remark(code)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_well_formed_and_stands_once() {
        let codes = codes();
        for code in &codes {
            assert!(code.code.len() == 5 && code.code.starts_with('E'), "{}", code.code);
            assert!(
                code.code[1..].bytes().all(|byte| byte.is_ascii_digit()),
                "{}",
                code.code
            );
            assert!(
                !code.title.is_empty() && code.explanation.ends_with('.'),
                "{}",
                code.code
            );
        }
        for pair in codes.windows(2) {
            assert_ne!(pair[0].code, pair[1].code);
        }
    }

    #[test]
    fn the_reference_has_an_anchor_for_each() {
        let reference = reference();
        for code in codes() {
            assert!(reference.contains(&format!("<a id=\"{}\"></a>", code.code.to_lowercase())));
        }
    }

    /// Every source file of this crate, tests included.
    fn sources(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }

    /// `E` and four digits in quotes.
    fn literals(text: &str) -> Vec<&str> {
        let is_code = |word: &&str| {
            word.len() == 5 && word.starts_with('E') && word[1..].bytes().all(|byte| byte.is_ascii_digit())
        };
        text.split('"').filter(is_code).collect()
    }

    #[test]
    #[cfg(feature = "engine")]
    fn every_code_that_is_used_is_registered() {
        let registered: Vec<&str> = codes().iter().map(|code| code.code).collect();
        let mut files = Vec::new();
        sources(
            &std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
            &mut files,
        );
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            for code in literals(&text) {
                assert!(
                    registered.contains(&code),
                    "{code} in {} is not registered",
                    file.display()
                );
            }
        }
    }

    #[test]
    #[cfg(feature = "engine")]
    fn the_reference_is_up_to_date() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/errors.md");
        if std::env::var_os("ROWMILL_BLESS").is_some() {
            std::fs::write(&file, reference()).unwrap();
        }
        let found = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            found == reference(),
            "errors.md is old: run this test with ROWMILL_BLESS=1"
        );
    }
}
