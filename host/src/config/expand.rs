//! `${VAR}`, `${VAR:-default}` and `${file:path}` in a value.
//!
//! Only values of the parsed file are expanded, never its raw text: what a variable holds can't add keys or lines.

use std::fmt;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A secret in a file is a line, or a key of a few kilobytes.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// The permission bits that let everybody read a file.
const OTHERS_READ: u32 = 0o004;

/// Where variables come from; tests have their own.
pub(super) type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum ExpandError {
    Unset(String),
    /// `${` without `}`.
    Unclosed,
    /// What stands between the braces is no name.
    NoName(String),
    File {
        path: String,
        error: String,
    },
    /// Everybody on the machine can read it.
    Exposed(String),
}

/// Names and paths, never values.
impl fmt::Display for ExpandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset(name) => write!(f, "variable {name} isn't set"),
            Self::Unclosed => f.write_str("a reference without its end"),
            Self::NoName(_) => f.write_str("a reference without a name"),
            Self::File { path, error } => write!(f, "file {path}: {error}"),
            Self::Exposed(path) => write!(f, "file {path} can be read by all"),
        }
    }
}

/// Replaces every reference; `$${` stands for `${`.
pub(super) fn expand(text: &str, variables: Variables<'_>, base: &Path) -> Result<String, Vec<ExpandError>> {
    let mut expanded = String::new();
    let mut errors = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = &reference[2..];
            continue;
        }
        expanded.push_str(before);
        let Some((inside, after)) = reference[2..].split_once('}') else {
            errors.push(ExpandError::Unclosed);
            rest = "";
            break;
        };
        match resolve(inside, variables, base) {
            Ok(value) => expanded.push_str(&value),
            Err(error) => errors.push(error),
        }
        rest = after;
    }
    expanded.push_str(rest);
    if errors.is_empty() { Ok(expanded) } else { Err(errors) }
}

/// The references of a stored value, resolved as they are now. `None` where one can't be.
#[cfg(feature = "engine")]
pub(crate) fn expand_stored(written: &serde_json::Value, base: &Path) -> Option<serde_json::Value> {
    use serde_json::Value;
    match written {
        Value::String(text) if has_reference(text) => {
            let expanded = expand(text, &|name| std::env::var(name).ok(), base);
            expanded.ok().map(Value::String)
        }
        Value::Array(items) => items.iter().map(|item| expand_stored(item, base)).collect(),
        Value::Object(fields) => {
            let of = |(key, value): (&String, &Value)| Some((key.clone(), expand_stored(value, base)?));
            fields.iter().map(of).collect::<Option<_>>().map(Value::Object)
        }
        plain => Some(plain.clone()),
    }
}

/// Whether anything in it comes from elsewhere.
pub(super) fn has_reference(text: &str) -> bool {
    text.contains("${")
}

fn resolve(inside: &str, variables: Variables<'_>, base: &Path) -> Result<String, ExpandError> {
    if let Some(path) = inside.strip_prefix("file:") {
        return read(path, base);
    }
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let is_name = |name: &str| {
        let valid = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        valid && !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    if !is_name(name) {
        return Err(ExpandError::NoName(name.to_owned()));
    }
    // As in a shell: a default stands in for an empty variable too.
    match (variables(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(ExpandError::Unset(name.to_owned())),
    }
}

fn read(path: &str, base: &Path) -> Result<String, ExpandError> {
    let failed = |error: String| ExpandError::File {
        path: path.to_owned(),
        error,
    };
    let resolved = base.join(path);
    // Looked at before it is opened: to open a pipe would wait for its writer.
    let metadata = std::fs::metadata(&resolved).map_err(|error| failed(error.to_string()))?;
    if !metadata.is_file() {
        return Err(failed("not a regular file".to_owned()));
    }
    if metadata.permissions().mode() & OTHERS_READ != 0 {
        return Err(ExpandError::Exposed(path.to_owned()));
    }
    let file = std::fs::File::open(&resolved).map_err(|error| failed(error.to_string()))?;
    let mut text = String::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| failed(error.to_string()))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(failed(format!("larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn variables(name: &str) -> Option<String> {
        match name {
            "USER" => Some("app".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("x\nname: other ${USER}".to_owned()),
            _ => None,
        }
    }

    fn here(text: &str) -> Result<String, Vec<ExpandError>> {
        expand(text, &variables, Path::new("."))
    }

    #[test]
    fn references_are_replaced_once() {
        assert_eq!(
            here("a ${USER} ${NO:-b} ${EMPTY:-c}${EMPTY}").as_deref(),
            Ok("a app b c")
        );
        assert_eq!(here("$${USER} $5 $").as_deref(), Ok("${USER} $5 $"));
        assert_eq!(here("${TRICK}").as_deref(), Ok("x\nname: other ${USER}"));
    }

    #[test]
    fn every_error_is_told() {
        let errors = here("${A} ${B} ${1x} ${").expect_err("none of them is there");
        let unset = |name: &str| ExpandError::Unset(name.to_owned());
        let expected = vec![
            unset("A"),
            unset("B"),
            ExpandError::NoName("1x".to_owned()),
            ExpandError::Unclosed,
        ];
        assert_eq!(errors, expected);
    }

    #[test]
    fn a_secret_file_is_for_its_owner() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("password");
        fs::write(&path, "hunter2\n").expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a mode");
        let exposed = expand("${file:password}", &variables, folder.path());
        assert_eq!(exposed, Err(vec![ExpandError::Exposed("password".to_owned())]));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
        assert_eq!(
            expand("${file:password}", &variables, folder.path()).as_deref(),
            Ok("hunter2")
        );
        let missing = expand("${file:no}", &variables, folder.path()).expect_err("it isn't there");
        assert!(matches!(missing[0], ExpandError::File { .. }));
    }
}
