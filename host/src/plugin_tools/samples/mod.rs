//! Golden samples: changes as JSON lines, for tests of plugins and for the rehearsal of a new version.
//!
//! ```text
//! {"schema":"public","table":"orders","replica_identity":"full","columns":[{"name":"id","type":"bigint","key":true},
//!                                                                         {"name":"status","type":"text"}]}
//! {"op":"insert","new":{"id":"1","status":"paid"}}
//! {"op":"update","new":{"id":"1"},"old":{"id":"1","status":"paid"}}
//! {"op":"delete","key":{"id":"1"}}
//! {"commit":true}
//! ```
//!
//! A table's line stands before the changes of it; `{"commit":true}` ends a transaction, and so does the file. A value
//! is Postgres' own text as a string, NULL is `null`. A column that is left out is NULL in a new row, unchanged TOAST in
//! the new image of an update, and absent from an old image. `old` is the whole old row, `key` its key alone.

mod read;
mod write;

pub use read::read;
pub use write::{change, table};

use crate::batch::Batch;
use std::io;
use std::path::{Path, PathBuf};

/// Samples larger than this are no samples; they are read whole. All files of a folder together.
const BYTES_MAX: u64 = 64 << 20;
/// Each is named in what is shown.
const FILES_MAX: usize = 1_000;
const SUFFIX: &str = ".jsonl";
const EXPECTED_SUFFIX: &str = ".expected.jsonl";

/// One file of samples.
#[derive(Debug)]
pub struct SampleFile {
    pub path: PathBuf,
    /// Its changes, in `rows`, as they would arrive.
    pub batch: Batch,
}

/// A file of samples that can't be read, and where.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("{}, line {line}: {what}", path.display())]
    Line { path: PathBuf, line: usize, what: String },
}

/// Where what is expected of a file of samples stands: `a.jsonl` gives `a.expected.jsonl`.
pub fn expected_path(input: &Path) -> PathBuf {
    input.with_extension("expected.jsonl")
}

/// Where the samples of a module lie unless it is said otherwise: `NAME.samples` beside it.
pub fn beside(module: &Path) -> PathBuf {
    module.with_extension("samples")
}

/// Reads all samples of a folder, by name. What is expected of them isn't read.
///
/// # Errors
///
/// A folder or file that can't be read, a line that isn't as the format has it.
pub fn load(folder: &Path) -> Result<Vec<SampleFile>, SampleError> {
    let of_folder = |error| SampleError::File {
        path: folder.to_owned(),
        error,
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(of_folder)? {
        let path = entry.map_err(of_folder)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(SUFFIX) && !name.ends_with(EXPECTED_SUFFIX) {
            paths.push(path);
        }
    }
    if paths.len() > FILES_MAX {
        return Err(of_folder(io::Error::other(format!(
            "more than {FILES_MAX} files of samples"
        ))));
    }
    paths.sort();
    let mut left = BYTES_MAX;
    paths.into_iter().map(|path| load_file(path, &mut left)).collect()
}

/// `left` is how many bytes may still be read.
fn load_file(path: PathBuf, left: &mut u64) -> Result<SampleFile, SampleError> {
    match text_of(&path, left) {
        Err(error) => Err(SampleError::File { path, error }),
        Ok(text) => match read(&text) {
            Ok(batch) => Ok(SampleFile { path, batch }),
            Err(bad) => Err(SampleError::Line {
                path,
                line: bad.line,
                what: bad.what,
            }),
        },
    }
}

fn text_of(path: &Path, left: &mut u64) -> io::Result<String> {
    let beyond = || io::Error::other(format!("more than {BYTES_MAX} bytes of samples"));
    *left = left.checked_sub(path.metadata()?.len()).ok_or_else(beyond)?;
    std::fs::read_to_string(path)
}
