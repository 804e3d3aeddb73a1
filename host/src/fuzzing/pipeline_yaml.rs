//! The user's file.

use crate::config;
use crate::problem::{Style, render_all};
use std::path::Path;

/// A pipeline's file, with every problem that it has as people get to see it.
pub(super) fn pipeline_yaml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let variables = |name: &str| (name == "SET").then(|| "text".to_owned());
    // No such folder: nothing of the machine's is read.
    match config::load_text(Path::new("/nowhere/pipeline.yaml"), text, &variables) {
        Ok(pipeline) => assert!(
            !pipeline.routes.is_empty() && !pipeline.sinks.is_empty(),
            "rows go nowhere"
        ),
        Err(problems) => {
            let shown = render_all(&problems, Style::PLAIN);
            assert!(shown.starts_with("error["), "a refusal without a word");
            assert!(!shown.contains('\u{1b}'), "an escape sequence passes");
        }
    }
}
