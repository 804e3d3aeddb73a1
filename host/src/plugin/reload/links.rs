//! Which folders decide what a path leads to.
//!
//! For `plugins/mask.wasm -> ..data/mask.wasm` and `..data -> v1` these are `plugins` (both links lie there) and
//! `plugins/v1` (the file does). Watching each of them notices a swap of any link on the way.

use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// As many as Linux follows.
const LINKS_MAX: usize = 40;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Way {
    /// Folders in which a change can lead elsewhere, without doubles.
    pub folders: Vec<PathBuf>,
    /// The path without links, as far as there is something.
    pub target: PathBuf,
}

/// Follows `path`, which has to be absolute, link by link. A way that doesn't end is cut off: the poll sees to it.
pub(super) fn follow(path: &Path) -> Way {
    let mut way = Way::default();
    let mut resolved = PathBuf::new();
    let mut ahead = steps(path);
    let mut links = 0;
    while let Some(step) = ahead.pop() {
        if step == ".." {
            resolved.pop();
            continue;
        }
        // A step that is the root begins anew there.
        resolved.push(step);
        let Ok(link) = fs::read_link(&resolved) else { continue };
        links += 1;
        if links > LINKS_MAX {
            break;
        }
        resolved.pop();
        way.add(&resolved);
        ahead.extend(steps(&link));
    }
    if let Some(folder) = resolved.parent() {
        way.add(folder);
    }
    way.target = resolved;
    way
}

/// The components, the first one last.
fn steps(path: &Path) -> Vec<OsString> {
    let components = path.components().rev();
    components
        .filter(|step| *step != Component::CurDir)
        .map(|step| step.as_os_str().to_owned())
        .collect()
}

impl Way {
    fn add(&mut self, folder: &Path) {
        if !self.folders.iter().any(|known| known == folder) {
            self.folders.push(folder.to_owned());
        }
    }
}
