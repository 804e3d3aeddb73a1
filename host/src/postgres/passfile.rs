//! Passwords from `~/.pgpass`, as libpq finds them.
//!
//! <https://www.postgresql.org/docs/current/libpq-pgpass.html>

use crate::config::Secret;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What a line of the file has to match, `*` aside.
pub(super) struct Wanted<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) dbname: &'a str,
    pub(super) user: &'a str,
}

/// Bits of the mode that make libpq ignore the file: anything for group or others.
const FORBIDDEN_MODE: u32 = 0o077;

/// The password of the first line that matches. A file that others can read is ignored, with a warning.
pub(super) fn find(path: &Path, wanted: &Wanted<'_>) -> Option<Secret> {
    let metadata = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    if metadata.permissions().mode() & FORBIDDEN_MODE != 0 {
        tracing::warn!(path = %path.display(), "password file ignored: group or others have access; chmod 0600 it");
        return None;
    }
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| password_of(line, wanted))
}

fn password_of(line: &str, wanted: &Wanted<'_>) -> Option<Secret> {
    if line.starts_with('#') {
        return None;
    }
    let port = wanted.port.to_string();
    let mut rest = line;
    for value in [wanted.host, &port, wanted.dbname, wanted.user] {
        let (field, after) = split_field(rest)?;
        if field != "*" && unescape(field) != value {
            return None;
        }
        rest = after;
    }
    // The password is the last field; a colon that isn't escaped ends it.
    let password = split_field(rest).map_or(rest, |(field, _)| field);
    Some(Secret::new(unescape(password)))
}

/// Up to the next colon that no backslash precedes.
fn split_field(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ':' => return Some((&text[..at], &text[at + 1..])),
            _ => {}
        }
    }
    None
}

fn unescape(field: &str) -> String {
    let mut plain = String::with_capacity(field.len());
    let mut characters = field.chars();
    while let Some(character) = characters.next() {
        plain.extend(if character == '\\' {
            characters.next()
        } else {
            Some(character)
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# comment\nshop.example:5432:orders:anna:first\n*:*:*:anna:a\\:b\\\\c\n";

    fn look_up(host: &str, user: &str, mode: u32) -> Option<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), FILE).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let wanted = Wanted {
            host,
            port: 5432,
            dbname: "orders",
            user,
        };
        find(file.path(), &wanted).map(|secret| secret.reveal().to_owned())
    }

    #[test]
    fn the_first_matching_line_wins_and_escapes_are_undone() {
        assert_eq!(look_up("shop.example", "anna", 0o600).as_deref(), Some("first"));
        assert_eq!(look_up("other.example", "anna", 0o600).as_deref(), Some("a:b\\c"));
        assert_eq!(look_up("shop.example", "bob", 0o600), None);
    }

    #[test]
    fn a_file_that_others_can_read_is_ignored() {
        assert_eq!(look_up("shop.example", "anna", 0o640), None);
    }
}
