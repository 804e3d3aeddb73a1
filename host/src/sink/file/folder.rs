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

    pub(super) fn manifest_path(&self) -> PathBuf {
        self.folder.join(format!("{}.manifest", self.name(0)))
    }

    /// The manifest on disk, or `expected`, stored, where there is none.
    pub(super) fn load(&self, expected: Manifest) -> Result<Manifest, SinkError> {
        fs::create_dir_all(&self.folder).map_err(|error| self.failed("creating the folder of", error))?;
        let path = self.manifest_path();
        match fs::read(&path) {
            Ok(text) => {
                let manifest = Manifest::parse(&text, &expected, &path.display().to_string())?;
                self.refuse_beyond(&manifest)?;
                Ok(manifest)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.refuse_foreign()?;
                self.store(&expected)?;
                Ok(expected)
            }
            Err(error) => Err(self.failed("reading the manifest of", error)),
        }
    }

    /// The manifest of this pipeline's sink, where there is one; changes nothing.
    pub(super) fn find(&self, pipeline: &str, sink: &str) -> Result<Option<Manifest>, SinkError> {
        let path = self.manifest_path();
        match fs::read(&path) {
            Ok(text) => {
                let found = Manifest::read(&text, &path.display().to_string())?;
                Ok(found.is_of(pipeline, sink).then_some(found))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("reading the manifest of", error)),
        }
    }

    /// Whether [`Self::load`] and [`Self::resume`] would get through. A file is made beside the others and removed
    /// again, as nothing else tells whether one can be made.
    pub(super) fn check(&self, expected: &Manifest) -> Result<(), SinkError> {
        let path = self.manifest_path();
        match fs::read(&path) {
            Ok(text) => self.refuse_beyond(&Manifest::parse(&text, expected, &path.display().to_string())?)?,
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

    /// Without a manifest nothing says what a file holds: somebody else's data must not be cut. One with a number may be
    /// full of rows whose manifest was lost; a first one that is empty holds nothing.
    fn refuse_foreign(&self) -> Result<(), SinkError> {
        let mut found: Vec<PathBuf> = self.numbered()?.into_iter().map(|(_, path)| path).collect();
        if fs::metadata(&self.path).is_ok_and(|first| first.len() > 0) {
            found.insert(0, self.path.clone());
        }
        self.refuse(&found, "but no manifest with them")
    }

    /// Nor is anything of ours beyond the current file, but the next one without a byte, where the manifest didn't follow
    /// its making.
    fn refuse_beyond(&self, manifest: &Manifest) -> Result<(), SinkError> {
        let mut found = self.numbered()?;
        found.retain(|(number, path)| {
            let is_next = *number == manifest.sequence() + 1;
            *number > manifest.sequence() && !(is_next && is_empty(path))
        });
        let found: Vec<PathBuf> = found.into_iter().map(|(_, path)| path).collect();
        self.refuse(&found, "and the manifest doesn't have them")
    }

    /// Names all that is in the way.
    fn refuse(&self, found: &[PathBuf], why: &str) -> Result<(), SinkError> {
        let Some(first) = found.first() else {
            return Ok(());
        };
        let headline = format!("files like {} are there, {why}", first.display());
        let files: Vec<String> = found.iter().map(|path| path.display().to_string()).collect();
        let path = self.path.display();
        let help = format!(
            "keep them elsewhere: mkdir {path}.old && mv {} {path}.old/",
            files.join(" ")
        );
        Err(Problem::new("E0421", Exit::Sink, headline, help).into())
    }

    /// The files with a number that lie in the folder, in order.
    fn numbered(&self) -> Result<Vec<(u64, PathBuf)>, SinkError> {
        let listed = || -> io::Result<Vec<u64>> {
            let mut numbers = Vec::new();
            for entry in fs::read_dir(&self.folder)? {
                numbers.extend(self.number(&entry?.file_name().to_string_lossy()));
            }
            Ok(numbers)
        };
        let mut numbers = match listed() {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            numbers => numbers.map_err(|error| self.failed("listing the folder of", error))?,
        };
        numbers.sort_unstable();
        let with_path = |number| (number, self.folder.join(self.name(number)));
        Ok(numbers.into_iter().map(with_path).collect())
    }

    /// The number of a file by its name; `None` where it is the first or none of these.
    fn number(&self, name: &str) -> Option<u64> {
        let number = name.strip_prefix(&self.stem)?.strip_prefix('.')?;
        let number = number.strip_suffix(&self.extension)?.parse().ok()?;
        (number > 0 && self.name(number) == name).then_some(number)
    }

    /// Opens the current file, cut to what the manifest covers. An empty one behind it is made again when its turn comes.
    pub(super) fn resume(&self, manifest: &Manifest) -> Result<File, SinkError> {
        let next = self.folder.join(self.name(manifest.sequence() + 1));
        if is_empty(&next) {
            fs::remove_file(&next).map_err(|error| self.failed("removing a file behind", error))?;
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

    /// Creates the current file of a manifest that is to be stored next. One that is there under its name isn't ours.
    pub(super) fn create(&self, manifest: &Manifest) -> Result<File, SinkError> {
        let path = self.folder.join(&manifest.current().name);
        let create = || -> io::Result<File> {
            let file = File::create_new(&path)?;
            self.sync_folder()?;
            Ok(file)
        };
        match create() {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                self.refuse(&[path], "and the manifest doesn't have them")?;
                Err(self.failed("beginning the next file of", error))
            }
            created => created.map_err(|error| self.failed("beginning the next file of", error)),
        }
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

fn is_empty(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.len() == 0)
}
