//! The thread that watches the folders of all plugins.

use super::candidate::Candidate;
use super::store::ModuleStore;
use super::{ModuleHash, ReloadEvent};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A plugin whose file is watched.
#[derive(Clone, Debug)]
pub struct WatchedPlugin {
    pub name: String,
    pub module: PathBuf,
    /// What runs now; a file that holds just this is no change.
    pub running: Option<ModuleHash>,
    /// The most bytes that a module may have.
    pub limit: u64,
}

#[derive(Clone, Debug)]
pub struct WatchSettings {
    /// How long a file must not change before it is read.
    pub settle: Duration,
    /// The least time between two changes of one plugin.
    pub interval: Duration,
    /// How often files are looked at where no event says so; also how long a file that is still open for writing
    /// is waited for, and when a change is told again that couldn't be taken up.
    pub poll: Duration,
    /// Modules that lie outside are refused, with all links followed.
    pub root: Option<PathBuf>,
}

impl Default for WatchSettings {
    fn default() -> Self {
        Self {
            settle: Duration::from_millis(300),
            interval: Duration::from_secs(1),
            poll: Duration::from_secs(5),
            root: None,
        }
    }
}

/// What is to come of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is settled, until the file changes.
    Settled,
    /// Nothing is wrong with the file: the same change is told again with the next poll.
    Again,
    /// Nobody listens any more.
    Over,
}

enum Wake {
    Event(notify::Result<Event>),
    Stop,
}

/// Watches until it is dropped.
pub struct ModuleWatcher {
    wake: Sender<Wake>,
    thread: Option<JoinHandle<()>>,
}

impl ModuleWatcher {
    /// Watches from now on, on a thread of its own. `tell` gets every event on that thread, and may block it.
    pub fn start(
        plugins: Vec<WatchedPlugin>,
        settings: WatchSettings,
        store: ModuleStore,
        tell: impl FnMut(ReloadEvent) -> Answer + Send + 'static,
    ) -> io::Result<Self> {
        let (wake, woken) = mpsc::channel();
        let events = wake.clone();
        let watcher = notify::recommended_watcher(move |event| {
            // The thread has ended: nobody wants it any more.
            let _ = events.send(Wake::Event(event));
        });
        let watcher = match watcher {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(%error, "folders can't be watched; plugin files are polled");
                None
            }
        };
        let now = Instant::now();
        let plugins = plugins.into_iter().map(|plugin| {
            let module = std::path::absolute(&plugin.module)?;
            Ok(Candidate::new(WatchedPlugin { module, ..plugin }, now))
        });
        let mut watch = Watch {
            candidates: plugins.collect::<io::Result<_>>()?,
            settings,
            store,
            watcher,
            watched: HashSet::new(),
            woken,
            next_poll: now,
        };
        // Before returning: what is written from here on is noticed from its first byte.
        watch.poll();
        let thread = thread::Builder::new()
            .name("plugin-watch".into())
            .spawn(move || watch.run(tell))?;
        Ok(Self {
            wake,
            thread: Some(thread),
        })
    }
}

impl Drop for ModuleWatcher {
    fn drop(&mut self) {
        let _ = self.wake.send(Wake::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that watches plugin files has panicked");
        }
    }
}

struct Watch {
    candidates: Vec<Candidate>,
    settings: WatchSettings,
    store: ModuleStore,
    watcher: Option<RecommendedWatcher>,
    watched: HashSet<PathBuf>,
    woken: Receiver<Wake>,
    next_poll: Instant,
}

impl Watch {
    fn run(&mut self, mut tell: impl FnMut(ReloadEvent) -> Answer) {
        while self.wait() {
            if Instant::now() >= self.next_poll {
                self.poll();
            }
            for index in 0..self.candidates.len() {
                let candidate = &mut self.candidates[index];
                let event = candidate.settle(Instant::now(), &self.settings, &self.store);
                match event.map(&mut tell) {
                    None | Some(Answer::Settled) => {}
                    Some(Answer::Again) => candidate.again(Instant::now() + self.settings.poll),
                    Some(Answer::Over) => return,
                }
            }
            self.follow_links();
        }
    }

    /// Sleeps until something is due and takes in what has happened. False once it is over.
    fn wait(&mut self) -> bool {
        let due = self
            .candidates
            .iter()
            .filter_map(|candidate| candidate.due(&self.settings));
        let until = due.fold(self.next_poll, Instant::min);
        let patience = until.saturating_duration_since(Instant::now());
        let mut wake = match self.woken.recv_timeout(patience) {
            Ok(wake) => wake,
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        loop {
            match wake {
                Wake::Stop => return false,
                Wake::Event(event) => self.take(event),
            }
            match self.woken.try_recv() {
                Ok(next) => wake = next,
                Err(_) => return true,
            }
        }
    }

    fn take(&mut self, event: notify::Result<Event>) {
        let now = Instant::now();
        match event {
            Ok(event) => self
                .candidates
                .iter_mut()
                .for_each(|candidate| candidate.event(&event, now)),
            // Events were lost: the stamps tell.
            Err(_) => self.candidates.iter_mut().for_each(|candidate| candidate.look(now)),
        }
    }

    /// Looks at every file, and watches its folders anew: one that was removed and made again has lost its watch.
    fn poll(&mut self) {
        let now = Instant::now();
        self.next_poll = now + self.settings.poll;
        self.candidates.iter_mut().for_each(|candidate| candidate.look(now));
        self.watched.clear();
        self.follow_links();
    }

    /// Watches the folders that the files' paths lead through now, and only those.
    fn follow_links(&mut self) {
        let Some(watcher) = self.watcher.as_mut() else { return };
        let folders = self.candidates.iter().flat_map(|candidate| &candidate.way.folders);
        let wanted: HashSet<PathBuf> = folders.cloned().collect();
        if wanted == self.watched {
            return;
        }
        for folder in self.watched.difference(&wanted) {
            // It may be gone already, and its watch with it.
            let _ = watcher.unwatch(folder);
        }
        let mut watched: HashSet<PathBuf> = self.watched.intersection(&wanted).cloned().collect();
        for folder in wanted.difference(&self.watched) {
            match watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    watched.insert(folder.clone());
                }
                Err(error) => tracing::debug!(folder = %folder.display(), %error, "folder is polled, not watched"),
            }
        }
        self.watched = watched;
        // What happened between following a path and watching it.
        let now = Instant::now();
        self.candidates.iter_mut().for_each(|candidate| candidate.look(now));
    }
}
