//! The folder with the files and their manifest.

use super::manifest::Manifest;
use crate::problem::{Exit, Problem};
use crate::sink::SinkError;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Where files of one sink lie, told by the first one's path. `orders.jsonl` is followed by `orders.000001.jsonl`.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
    folder: PathBuf,
    /// `orders`, `.jsonl`
    stem: String,
    extension: String,
}

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        let folder = match path.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let text = |part: Option<&std::ffi::OsStr>| part.map_or_else(String::new, |part| part.to_string_lossy().into());
        let extension = match text(path.extension()) {
            extension if extension.is_empty() => extension,
            extension => format!(".{extension}"),
        };
        Self {
            path: path.to_owned(),
            folder,
            stem: text(path.file_stem()),
            extension,
        }
    }

    /// The name of the file with this number.
    pub(super) fn name(&self, sequence: u64) -> String {
        let (stem, extension) = (&self.stem, &self.extension);
        match sequence {
            0 => format!("{stem}{extension}"),
            _ => format!("{stem}.{sequence:06}{extension}"),
        }
    }

    fn manifest_path(&self) -> PathBuf {
        self.folder.join(format!("{}.manifest", self.name(0)))
    }

    /// The manifest on disk, or `expected`, stored, where there is none.
    pub(super) fn load(&self, expected: Manifest) -> Result<Manifest, SinkError> {
        fs::create_dir_all(&self.folder).map_err(|error| self.failed("creating the folder of", error))?;
        let path = self.manifest_path();
        match fs::read(&path) {
            Ok(text) => Manifest::parse(&text, &expected, &path.display().to_string()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.refuse_foreign()?;
                self.store(&expected)?;
                Ok(expected)
            }
            Err(error) => Err(self.failed("reading the manifest of", error)),
        }
    }

    /// Whether [`Self::load`] and [`Self::resume`] would get through. A file is made beside the others and removed
    /// again, as nothing else tells whether one can be made.
    pub(super) fn check(&self, expected: &Manifest) -> Result<(), SinkError> {
        let path = self.manifest_path();
        match fs::read(&path) {
            Ok(text) => drop(Manifest::parse(&text, expected, &path.display().to_string())?),
            Err(error) if error.kind() == ErrorKind::NotFound => self.refuse_foreign()?,
            Err(error) => return Err(self.failed("reading the manifest of", error)),
        }
        let there = self.folder.ancestors().find(|folder| folder.exists());
        let there = there
            .filter(|folder| *folder != Path::new(""))
            .unwrap_or(Path::new("."));
        let probe = there.join(format!(".{}.{}.probe", self.name(0), std::process::id()));
        let made = OpenOptions::new().write(true).create_new(true).open(&probe);
        made.and_then(|_| fs::remove_file(&probe))
            .map_err(|error| self.failed("making a file beside", error))
    }

    /// Without a manifest nothing says what a file holds: somebody else's data must not be cut.
    fn refuse_foreign(&self) -> Result<(), SinkError> {
        match fs::metadata(&self.path) {
            Ok(found) if found.len() > 0 => {
                let path = self.path.display();
                let headline = format!("{path} is there, but no manifest of it");
                let help = format!("mv {path} {path}.old");
                Err(Problem::new("E0421", Exit::Sink, headline, help).into())
            }
            _ => Ok(()),
        }
    }

    /// Opens the current file, cut to what the manifest covers, and removes those behind it.
    pub(super) fn resume(&self, manifest: &Manifest) -> Result<File, SinkError> {
        for sequence in manifest.sequence() + 1.. {
            match fs::remove_file(self.folder.join(self.name(sequence))) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => break,
                Err(error) => return Err(self.failed("removing a file behind", error)),
            }
        }
        let current = manifest.current();
        let cut = || -> io::Result<(File, u64)> {
            let path = self.folder.join(&current.name);
            let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
            let found = file.metadata()?.len();
            if found > current.length {
                file.set_len(current.length)?;
            }
            file.seek(SeekFrom::Start(current.length))?;
            file.sync_all()?;
            self.sync_folder()?;
            Ok((file, found))
        };
        let (file, found) = cut().map_err(|error| self.failed("opening", error))?;
        if found < current.length {
            let headline = format!("{} is shorter than its manifest says", current.name);
            let cause = format!("it has {found} bytes, the manifest covers {}", current.length);
            let help = format!(
                "restore it, or give this sink another path than {}",
                self.path.display()
            );
            return Err(Problem::new("E0423", Exit::Sink, headline, help)
                .with_cause(cause)
                .into());
        }
        Ok(file)
    }

    /// Creates an empty file; what was there under this name was never covered.
    pub(super) fn create(&self, name: &str) -> Result<File, SinkError> {
        let create = || {
            let file = File::create(self.folder.join(name))?;
            self.sync_folder()?;
            Ok(file)
        };
        create().map_err(|error| self.failed("beginning the next file of", error))
    }

    /// Replaces the manifest, atomically and durably.
    pub(super) fn store(&self, manifest: &Manifest) -> Result<(), SinkError> {
        let path = self.manifest_path();
        let temporary = path.with_extension("manifest.new");
        let store = || {
            let mut text = serde_json::to_vec(manifest)?;
            text.push(b'\n');
            let mut file = File::create(&temporary)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            self.sync_folder()
        };
        store().map_err(|error| self.failed("storing the manifest of", error))
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    /// What retrying can't cure is a problem; a full disk, among others, may have room again.
    fn failed(&self, doing: &str, error: io::Error) -> SinkError {
        let path = self.path.display();
        let fix = match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "let this user write there",
            ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::AlreadyExists
            | ErrorKind::InvalidFilename => "give the path of a file in a folder",
            _ => return SinkError::Transient(anyhow::Error::new(error).context(format!("{doing} {path}"))),
        };
        let headline = format!("{path} can't be written");
        Problem::new("E0424", Exit::Sink, headline, fix)
            .with_cause(format!("{doing} {path}: {error}"))
            .into()
    }
}
