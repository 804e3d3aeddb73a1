//! Real files in real folders, changed in all the ways in which files are changed.
//!
//! That something is *not* delivered is shown by a witness: a second plugin whose file is changed later and whose
//! change arrives, on the same thread and after the same settle time.

use super::candidate::Candidate;
use super::store::hash_of;
use super::*;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);
const LIMIT: u64 = 1 << 20;

fn tell_to(sender: Sender<ReloadEvent>) -> impl FnMut(ReloadEvent) -> Answer + Send + 'static {
    move |event| match sender.send(event) {
        Ok(()) => Answer::Settled,
        Err(_) => Answer::Over,
    }
}

/// A folder with the module `mask.wasm` in `plugins/`, and what the watcher tells.
struct Bench {
    folder: TempDir,
    events: Option<Receiver<ReloadEvent>>,
    watcher: Option<ModuleWatcher>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("plugins")).unwrap();
        fs::write(folder.path().join("witness.wasm"), "0").unwrap();
        Self {
            folder,
            events: None,
            watcher: None,
        }
    }

    fn with_module(content: &str) -> Self {
        let bench = Self::new();
        fs::write(bench.module(), content).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn module(&self) -> PathBuf {
        self.path("plugins/mask.wasm")
    }

    fn store(&self) -> ModuleStore {
        ModuleStore::open(&self.path("state")).unwrap()
    }

    fn settings(&self) -> WatchSettings {
        WatchSettings {
            settle: Duration::from_millis(40),
            interval: Duration::from_millis(40),
            // Long: what arrives, arrives by events.
            poll: Duration::from_secs(3600),
            root: Some(self.folder.path().to_owned()),
        }
    }

    fn watched(&self, name: &str, module: PathBuf) -> WatchedPlugin {
        let running = fs::read(&module).ok().map(|bytes| hash_of(&bytes));
        WatchedPlugin {
            name: name.to_owned(),
            module,
            running,
            limit: LIMIT,
        }
    }

    fn start(&mut self, settings: WatchSettings) {
        let plugins = vec![
            self.watched("mask", self.module()),
            self.watched("witness", self.path("witness.wasm")),
        ];
        let (sender, events) = channel();
        let tell = tell_to(sender);
        self.watcher = Some(ModuleWatcher::start(plugins, settings, self.store(), tell).unwrap());
        self.events = Some(events);
    }

    fn started(mut self) -> Self {
        self.start(self.settings());
        self
    }

    fn next(&self) -> ReloadEvent {
        self.events
            .as_ref()
            .unwrap()
            .recv_timeout(PATIENCE)
            .expect("an event arrives")
    }

    /// The next event has to be a change of the plugin.
    fn changed(&self) -> String {
        match self.next() {
            ReloadEvent::Change {
                plugin,
                bytes,
                hash,
                stored,
            } => {
                assert_eq!(plugin, "mask");
                assert_eq!(hash, hash_of(&bytes));
                assert_eq!(fs::read(stored).unwrap(), bytes);
                String::from_utf8(bytes).unwrap()
            }
            other => panic!("expected a change, got {other:?}"),
        }
    }

    /// Nothing was told of the plugin: the witness, changed now, comes next.
    fn nothing_told(&self) {
        let content = format!("{:?}", Instant::now());
        fs::write(self.path("witness.wasm"), &content).unwrap();
        match self.next() {
            ReloadEvent::Change { plugin, .. } if plugin == "witness" => {}
            other => panic!("expected the witness, got {other:?}"),
        }
    }

    fn rename_into_place(&self, content: &str) {
        let fresh = self.path("plugins/.mask.wasm.tmp");
        fs::write(&fresh, content).unwrap();
        fs::rename(fresh, self.module()).unwrap();
    }
}

#[test]
fn a_file_that_is_written_over_arrives_once() {
    let bench = Bench::with_module("one").started();
    bench.nothing_told();
    fs::write(bench.module(), "two").unwrap();
    assert_eq!(bench.changed(), "two");
    bench.nothing_told();
}

#[test]
fn a_change_before_the_watch_began_arrives() {
    let mut bench = Bench::with_module("one");
    let running = bench.watched("mask", bench.module());
    fs::write(bench.module(), "two").unwrap();
    let (sender, events) = channel();
    let tell = tell_to(sender);
    bench.watcher = Some(ModuleWatcher::start(vec![running], bench.settings(), bench.store(), tell).unwrap());
    bench.events = Some(events);
    assert_eq!(bench.changed(), "two");
}

#[test]
fn a_file_that_is_touched_or_written_with_the_same_bytes_is_no_change() {
    let bench = Bench::with_module("one").started();
    fs::write(bench.module(), "one").unwrap();
    bench.rename_into_place("one");
    fs::set_permissions(bench.module(), fs::Permissions::from_mode(0o600)).unwrap();
    bench.nothing_told();
}

#[test]
fn p17_a_half_written_file_never_arrives() {
    let bench = Bench::with_module("one").started();
    let mut file = File::create(bench.module()).unwrap();
    file.write_all(b"first half, ").unwrap();
    // The witness settles after the half did: the half was held back because its writer still has it open.
    bench.nothing_told();
    file.write_all(b"second half").unwrap();
    bench.nothing_told();
    drop(file);
    assert_eq!(bench.changed(), "first half, second half");
}

#[test]
fn p17_a_file_truncated_in_place_never_arrives_empty() {
    let bench = Bench::with_module("one").started();
    let mut file = File::options().write(true).open(bench.module()).unwrap();
    file.set_len(0).unwrap();
    bench.nothing_told();
    file.write_all(b"two").unwrap();
    drop(file);
    assert_eq!(bench.changed(), "two");
}

#[test]
fn a_writer_that_never_closes_is_waited_for_only_so_long() {
    let mut bench = Bench::with_module("one");
    let poll = Duration::from_millis(200);
    bench.start(WatchSettings {
        poll,
        ..bench.settings()
    });
    let mut file = File::create(bench.module()).unwrap();
    file.write_all(b"two").unwrap();
    assert_eq!(bench.changed(), "two");
    drop(file);
}

#[test]
fn p19_an_atomic_rename_arrives() {
    let bench = Bench::with_module("one").started();
    for content in ["two", "three", "four"] {
        bench.rename_into_place(content);
        assert_eq!(bench.changed(), content);
    }
}

#[test]
fn p19_a_symlink_that_is_swapped_arrives() {
    let bench = Bench::new();
    for version in ["one", "two"] {
        fs::write(bench.path(version), version).unwrap();
    }
    symlink("../one", bench.module()).unwrap();
    let bench = bench.started();
    bench.nothing_told();
    swap_link(&bench.path("two"), &bench.module());
    assert_eq!(bench.changed(), "two");
    // The file that the link leads to lies in another folder, and is watched there.
    fs::write(bench.path("two"), "two again").unwrap();
    assert_eq!(bench.changed(), "two again");
}

#[test]
fn p19_a_data_folder_that_is_swapped_arrives() {
    let bench = Bench::new();
    for version in ["v1", "v2", "v3"] {
        fs::create_dir(bench.path("plugins").join(version)).unwrap();
        fs::write(bench.path("plugins").join(version).join("mask.wasm"), version).unwrap();
    }
    let data = bench.path("plugins/..data");
    symlink("v1", &data).unwrap();
    symlink("..data/mask.wasm", bench.module()).unwrap();
    let bench = bench.started();
    bench.nothing_told();
    for version in ["v2", "v3"] {
        swap_link(Path::new(version), &data);
        fs::remove_dir_all(bench.path("plugins").join(if version == "v2" { "v1" } else { "v2" })).unwrap();
        assert_eq!(bench.changed(), version);
    }
}

fn swap_link(target: &Path, link: &Path) {
    let fresh = link.parent().unwrap().join("fresh-link");
    symlink(target, &fresh).unwrap();
    fs::rename(fresh, link).unwrap();
}

#[test]
fn p18_a_deleted_file_is_told_once_and_changes_nothing() {
    let bench = Bench::with_module("one").started();
    fs::remove_file(bench.module()).unwrap();
    assert!(matches!(bench.next(), ReloadEvent::Gone { plugin } if plugin == "mask"));
    bench.nothing_told();
    bench.rename_into_place("one");
    bench.nothing_told();
    bench.rename_into_place("two");
    assert_eq!(bench.changed(), "two");
}

#[test]
fn p20_x5_a_link_out_of_the_root_is_refused() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("passwd"), "secret").unwrap();
    let bench = Bench::with_module("one").started();
    swap_link(&outside.path().join("passwd"), &bench.module());
    match bench.next() {
        ReloadEvent::Refused { plugin, reason } => {
            assert_eq!(plugin, "mask");
            assert!(reason.starts_with("it leads out of"), "{reason}");
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
    bench.nothing_told();
    bench.rename_into_place("two");
    assert_eq!(bench.changed(), "two");
}

#[test]
fn what_is_too_large_or_no_file_is_refused() {
    let bench = Bench::with_module("one").started();
    let refused = || match bench.next() {
        ReloadEvent::Refused { reason, .. } => reason,
        other => panic!("expected a refusal, got {other:?}"),
    };
    bench.rename_into_place(&"x".repeat(LIMIT as usize + 1));
    assert!(refused().contains("limit"));
    fs::remove_file(bench.module()).unwrap();
    fs::create_dir(bench.module()).unwrap();
    assert_eq!(refused(), "it is not a regular file");
}

#[test]
fn p21_the_last_of_a_hundred_quick_rewrites_wins() {
    let bench = Bench::with_module("0").started();
    for round in 1..=100 {
        if round % 2 == 0 {
            bench.rename_into_place(&round.to_string());
        } else {
            fs::write(bench.module(), round.to_string()).unwrap();
        }
    }
    let mut arrived = vec![bench.changed()];
    while arrived.last().is_some_and(|last| last != "100") {
        arrived.push(bench.changed());
    }
    assert!(arrived.len() < 20, "{} of 100 arrived", arrived.len());
    bench.nothing_told();
}

#[test]
fn p21_changes_of_one_plugin_keep_their_distance() {
    let bench = Bench::with_module("one");
    let settings = WatchSettings {
        settle: Duration::from_millis(300),
        interval: Duration::from_secs(1),
        ..bench.settings()
    };
    let start = Instant::now();
    let at = |ms: u64| start + Duration::from_millis(ms);
    let mut candidate = Candidate::new(bench.watched("mask", bench.module()), start);
    let store = bench.store();
    assert!(candidate.settle(at(299), &settings, &store).is_none());
    assert!(
        candidate.settle(at(300), &settings, &store).is_none(),
        "it runs already"
    );
    bench.rename_into_place("two");
    candidate.look(at(1000));
    assert_eq!(candidate.due(&settings), Some(at(1300)));
    assert!(candidate.settle(at(1300), &settings, &store).is_some());
    bench.rename_into_place("three");
    candidate.look(at(1310));
    assert_eq!(
        candidate.due(&settings),
        Some(at(2300)),
        "a second after the last, not 300 ms after the write"
    );
    assert!(candidate.settle(at(2299), &settings, &store).is_none());
    assert!(candidate.settle(at(2300), &settings, &store).is_some());
    assert_eq!(candidate.due(&settings), None);
}

#[test]
fn p24_what_no_event_tells_the_poll_finds() {
    let mut bench = Bench::new();
    let folder = bench.path("plugins");
    fs::remove_dir(&folder).unwrap();
    bench.start(WatchSettings {
        poll: Duration::from_millis(50),
        ..bench.settings()
    });
    assert!(matches!(bench.next(), ReloadEvent::Gone { .. }));
    fs::create_dir(&folder).unwrap();
    bench.rename_into_place("one");
    assert_eq!(bench.changed(), "one");
    // A folder that is made anew is watched anew.
    fs::remove_dir_all(&folder).unwrap();
    assert!(matches!(bench.next(), ReloadEvent::Gone { .. }));
    fs::create_dir(&folder).unwrap();
    bench.rename_into_place("two");
    assert_eq!(bench.changed(), "two");
}

#[test]
fn a_watcher_that_is_dropped_has_ended() {
    let mut bench = Bench::with_module("one").started();
    bench.watcher = None;
    assert!(bench.events.unwrap().recv().is_err(), "the sender went with the thread");
}

/// As where the disk of the state is full: the file is good, and nobody has to touch it once there is room.
#[test]
fn a_change_that_could_not_be_taken_up_is_told_again_without_another() {
    let mut bench = Bench::with_module("one");
    let running = bench.watched("mask", bench.module());
    let (sender, events) = channel();
    let mut refusals = 2;
    let tell = move |event| {
        if sender.send(event).is_err() {
            return Answer::Over;
        }
        if refusals == 0 {
            return Answer::Settled;
        }
        refusals -= 1;
        Answer::Again
    };
    let settings = WatchSettings {
        poll: Duration::from_millis(100),
        ..bench.settings()
    };
    bench.watcher = Some(ModuleWatcher::start(vec![running], settings, bench.store(), tell).unwrap());
    bench.events = Some(events);
    fs::write(bench.module(), "two").unwrap();
    for _ in 0..3 {
        assert_eq!(bench.changed(), "two");
    }
    // Taken up in the end.
    fs::write(bench.module(), "three").unwrap();
    assert_eq!(bench.changed(), "three");
}
