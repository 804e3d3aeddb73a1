//! What fuzz/ throws bytes at: each decoder of foreign bytes behind one function that must not panic.
//!
//! Built for tests and with the feature `fuzzing` alone. The targets under fuzz/ call these functions by name, and the
//! test below sends the kept corpus through them on every run.

mod decoders;
mod guest_reply;
mod pipeline_yaml;

/// A target's name, and what takes its bytes.
type Target = (&'static str, fn(&[u8]));

/// Every target. fuzz/Cargo.toml has one binary for each.
const TARGETS: [Target; 7] = [
    ("binary_value", decoders::binary_value),
    ("copy_row", decoders::copy_row),
    ("guest_reply", guest_reply::guest_reply),
    ("manifest", decoders::manifest),
    ("module_bytes", decoders::module_bytes),
    ("pgoutput", decoders::pgoutput),
    ("pipeline_yaml", pipeline_yaml::pipeline_yaml),
];

/// Sends bytes through a target.
///
/// # Panics
///
/// Where there is no target of that name, and where the target finds something.
pub fn run(target: &str, bytes: &[u8]) {
    let found = TARGETS.iter().find(|(name, _)| *name == target);
    let (_, function) = found.expect("a target that TARGETS lists");
    function(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn folder() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz"))
    }

    /// What was found once, and what reaches far into the decoders.
    #[test]
    fn the_kept_corpus_finds_nothing() {
        for (target, function) in TARGETS {
            let corpus = folder().join("corpus").join(target);
            let mut files = 0;
            for entry in std::fs::read_dir(&corpus).expect("a corpus for each target") {
                function(&std::fs::read(entry.unwrap().path()).unwrap());
                files += 1;
            }
            assert!(files > 0, "{} is empty", corpus.display());
        }
    }

    #[test]
    fn each_target_has_its_binary() {
        let manifest = std::fs::read_to_string(folder().join("Cargo.toml")).unwrap();
        for (target, _) in TARGETS {
            assert!(manifest.contains(&format!("name = \"{target}\"")), "{target}");
            assert!(
                folder().join("targets").join(target).with_extension("rs").exists(),
                "{target}"
            );
        }
    }
}
