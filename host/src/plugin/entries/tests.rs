use super::*;
use proptest::prelude::*;

fn of(bytes: &[u8]) -> EntryBytes {
    bytes.into()
}

impl SharedEntries {
    /// Bytes that are kept to go back to, and of keys that go into the store next.
    pub(in crate::plugin) fn held(&self) -> [u64; 2] {
        let entries = self.lock();
        let saved = entries.saved.iter().flatten();
        [
            saved.map(|firsts| firsts.bytes(|value| value.len())).sum(),
            entries.changed.bytes(|()| 0),
        ]
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(View, u8, Option<u8>),
    Save,
    Keep,
    /// What was written since the last [`Step::Save`] never was.
    PutBack,
    Checkpoint,
    /// The process ends, and what was stored is taken up.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let view = prop_oneof![Just(View::Running), Just(View::Waiting)];
    let value = prop::option::of(0..3u8);
    prop_oneof![
        12 => (view, 0..6u8, value).prop_map(|(view, key, value)| Step::Write(view, key, value)),
        3 => Just(Step::Save),
        2 => Just(Step::Keep),
        2 => Just(Step::PutBack),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Restart),
    ]
}

/// What a store has: the plugin's own, and what differs.
type Stored = [HashMap<EntryBytes, EntryBytes>; 2];

fn checkpoint(entries: &SharedEntries, stored: &mut Stored) {
    let changed = [entries.take_changed(), entries.take_changed_of_waiting()];
    for (stored, changed) in stored.iter_mut().zip(changed) {
        let Some(changed) = changed else { continue };
        if changed.anew {
            stored.clear();
        }
        for (key, value) in changed.writes {
            match value {
                Some(value) => stored.insert(key, value),
                None => stored.remove(&key),
            };
        }
    }
}

proptest! {
    /// Two maps, each written by its own version, are what the two views are; going back leaves the second. Nothing is kept
    /// of keys that are neither here nor where somebody may go back to.
    #[test]
    fn each_version_has_what_it_has_written(steps in prop::collection::vec(step(), 0..100)) {
        let first: HashMap<EntryBytes, EntryBytes> = (0..3).map(|at| (of(&[at]), of(&[at]))).collect();
        let mut stored: Stored = [first.clone(), HashMap::new()];
        let mut entries = SharedEntries::new("totals", 1 << 20, first.clone());
        let mut waiting = entries.clone();
        waiting.step_aside();
        let mut models = [first.clone(), first];
        checkpoint(&entries, &mut stored);
        let mut at_checkpoint = models.clone();
        let mut differed = 0;
        let mut saved: Vec<[HashMap<EntryBytes, EntryBytes>; 2]> = Vec::new();
        for step in steps {
            match step {
                Step::Write(view, key, value) => {
                    let model = &mut models[view as usize];
                    match value {
                        Some(value) => model.insert(of(&[key]), of(&[value])),
                        None => model.remove(&of(&[key])),
                    };
                    entries.lock().set(view, &[key], value.map(|value| of(&[value])));
                }
                Step::Save => {
                    entries.save();
                    saved.push(models.clone());
                }
                Step::Keep => {
                    entries.keep();
                    saved.pop();
                }
                Step::PutBack => {
                    entries.put_back();
                    models = saved.pop().unwrap_or(models);
                }
                Step::Checkpoint => {
                    checkpoint(&entries, &mut stored);
                    at_checkpoint = models.clone();
                    differed = entries.lock().waiting.as_ref().unwrap().differs.len();
                }
                Step::Restart => {
                    let differs = stored[1].clone().into_iter().collect();
                    entries = SharedEntries::new("totals", 1 << 20, stored[0].clone()).with_waiting(differs);
                    waiting = entries.waiting_as_stored();
                    models = at_checkpoint.clone();
                    differed = entries.lock().waiting.as_ref().unwrap().differs.len();
                    saved.clear();
                }
            }
            for (view, model) in [View::Running, View::Waiting].into_iter().zip(&models) {
                let entries = entries.lock();
                for key in 0..6 {
                    prop_assert_eq!(entries.get(view, &[key]), model.get(&of(&[key])));
                }
                let bytes = model.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>();
                prop_assert_eq!(entries.size(view), (model.len(), bytes));
                let waiting = entries.waiting.as_ref().unwrap();
                let differs = waiting.differs.len();
                prop_assert!(differs <= models[0].len() + models[1].len(), "{} differ", differs);
                prop_assert!(entries.changed.len() <= at_checkpoint[0].len() + models[0].len());
                prop_assert!(waiting.changed.len() <= differed + differs);
                let then = saved.iter().zip(saved.iter().skip(1).chain([&models]));
                prop_assert_eq!(entries.saved.len(), saved.len());
                for (kept, (at, behind)) in entries.saved.iter().zip(then) {
                    let view = view as usize;
                    prop_assert!(kept[view].len() <= at[view].len() + behind[view].len());
                }
            }
        }
        waiting.step_in(false);
        checkpoint(&waiting, &mut stored);
        prop_assert_eq!(&stored[0], &models[1]);
        prop_assert!(stored[1].is_empty());
    }
}

#[test]
fn a_version_that_is_let_go_leaves_nothing() {
    let entries = SharedEntries::new("totals", 1 << 20, []);
    let mut running = entries.clone();
    let mut waiting = entries;
    waiting.step_aside();
    waiting.lock().set(View::Waiting, b"a", Some(of(b"1")));
    let mut stored = Stored::default();
    checkpoint(&running, &mut stored);
    assert_eq!(stored[1].len(), 1);
    running.step_in(true);
    assert_eq!(waiting.size(), (1, 2), "somebody needs it");
    running.step_in(false);
    checkpoint(&running, &mut stored);
    assert_eq!(stored, Stored::default());
    waiting.lock().set(View::Waiting, b"a", Some(of(b"2")));
    assert_eq!(running.size(), (0, 0), "and writes nothing any more");
}
