//! A text that is never printed.

use super::expand::expand;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A secret: `Debug` and `Display` print a fixed mask, it can't be serialised, and its memory is cleared on drop.
#[derive(Clone)]
pub struct Secret {
    text: String,
    /// Where it comes from; `None` where nobody but us has it.
    written: Option<Arc<Written>>,
}

/// As the file has it, with its references, and where paths in them begin.
#[derive(PartialEq, Eq)]
struct Written {
    text: String,
    base: PathBuf,
}

const MASK: &str = "***";

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            written: None,
        }
    }

    /// The same with the text that it was made of.
    pub(super) fn written_as(self, text: &str, base: &Path) -> Self {
        let written = Written {
            text: text.to_owned(),
            base: base.to_owned(),
        };
        Self {
            text: self.text.clone(),
            written: Some(Arc::new(written)),
        }
    }

    /// The text itself, for the one place that has to send it.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// As it is now: the files and variables that it refers to are read again, so that a rotation needs no restart.
    ///
    /// # Errors
    /// What can't be read any more.
    pub fn read_again(&self) -> Result<Self, String> {
        let Some(written) = &self.written else {
            return Ok(self.clone());
        };
        let expanded = expand(&written.text, &|name| std::env::var(name).ok(), &written.base);
        match expanded {
            Ok(text) => Ok(Self {
                text,
                written: Some(Arc::clone(written)),
            }),
            Err(errors) => Err(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        }
    }
}

/// The same text, or the same references: one that was rotated is still the same secret.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text || (self.written.is_some() && self.written == other.written)
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.text).into_bytes();
        bytes.fill(0);
        std::hint::black_box(&bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_read_again_and_stays_the_same_secret() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("password");
        let write = |text: &str| {
            std::fs::write(&path, text).expect("a file");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
        };
        write("one\n");
        let of_file = |text: &str| Secret::new(text).written_as("app:${file:password}@", folder.path());
        let first = of_file("app:one@");
        write("two\n");
        let second = first.read_again().expect("a password");
        assert_eq!((first.reveal(), second.reveal()), ("app:one@", "app:two@"));
        assert!(first == second);
        assert!(Secret::new("app:one@") != second);
        std::fs::remove_file(&path).expect("the file");
        let error = second.read_again().expect_err("it is gone");
        assert!(error.contains("password") && !error.contains("two"), "{error}");
        assert_eq!(Secret::new("plain").read_again().expect("itself").reveal(), "plain");
    }
}
