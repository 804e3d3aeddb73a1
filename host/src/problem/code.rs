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

/// Every stage has a list of its own, `CODES`, and is named here.
const STAGES: &[&[Code]] = &[
    crate::config::CODES,
    crate::console::CODES,
    #[cfg(feature = "engine")]
    crate::demo::CODES,
    #[cfg(feature = "engine")]
    crate::cli::CODES,
];

/// All codes, ascending.
pub fn codes() -> Vec<Code> {
    let mut codes = STAGES.concat();
    codes.sort_by_key(|code| code.code);
    codes
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
            "\n<a id=\"{anchor}\"></a>\n\n## {code}: {title}\n\n{explanation}\n"
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
}
