//! Threads that take shares of a batch beside the lane's own.

use super::share::Share;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;

/// They end with it.
#[derive(Debug, Default)]
pub(super) struct Crew {
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    /// `None` once it is to end.
    tasks: Option<SyncSender<Box<Share>>>,
    done: Receiver<Box<Share>>,
    thread: Option<JoinHandle<()>>,
    /// Kept from batch to batch.
    share: Option<Box<Share>>,
}

impl Crew {
    /// As many as can be started: with fewer it is slower, and all the same.
    pub fn start(members: usize) -> Self {
        let start = |at| {
            let (tasks, taken) = mpsc::sync_channel::<Box<Share>>(1);
            let (done, results) = mpsc::sync_channel(1);
            let work = move || {
                while let Ok(mut share) = taken.recv() {
                    share.work();
                    if done.send(share).is_err() {
                        return;
                    }
                }
            };
            let thread = std::thread::Builder::new().name(format!("division-{at}"));
            match thread.spawn(work) {
                Ok(thread) => Some(Member {
                    tasks: Some(tasks),
                    done: results,
                    thread: Some(thread),
                    share: Some(Box::default()),
                }),
                Err(error) => {
                    tracing::warn!(%error, "a thread for plugins that are divided by key can't be started");
                    None
                }
            }
        };
        Self {
            members: (0..members).map_while(start).collect(),
        }
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// The share of a member that is at rest.
    pub fn share(&mut self, member: usize) -> &mut Share {
        self.members[member].share.get_or_insert_default()
    }

    /// Lets a member work on its share.
    pub fn begin(&mut self, member: usize) {
        let member = &mut self.members[member];
        if let (Some(tasks), Some(share)) = (&member.tasks, member.share.take()) {
            // One that has gone is noticed by whoever waits for it.
            let _ = tasks.send(share);
        }
    }

    /// Waits until it has finished.
    pub fn finished(&mut self, member: usize) -> &mut Share {
        let member = &mut self.members[member];
        match member.done.recv() {
            Ok(share) => member.share.insert(share),
            Err(_) => match member.thread.take().map(JoinHandle::join) {
                Some(Err(panic)) => std::panic::resume_unwind(panic),
                // It ends by a panic alone while there are tasks.
                _ => unreachable!("a thread of a divided plugin has ended"),
            },
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for member in &mut self.members {
            member.tasks = None;
        }
        for thread in self.members.iter_mut().filter_map(|member| member.thread.take()) {
            // Whoever waited for it has had its panic.
            let _ = thread.join();
        }
    }
}
