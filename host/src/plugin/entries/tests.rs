use super::*;
use proptest::prelude::*;

fn of(bytes: &[u8]) -> EntryBytes {
    bytes.into()
}

#[derive(Clone, Debug)]
enum Step {
    Write(View, u8, Option<u8>),
    /// What was written since then never was.
    SaveWritePutBack(u8, Option<u8>),
    Checkpoint,
    /// The process ends, and what was stored is taken up.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let view = prop_oneof![Just(View::Running), Just(View::Waiting)];
    let value = prop::option::of(0..3u8);
    prop_oneof![
        8 => (view, 0..6u8, value.clone()).prop_map(|(view, key, value)| Step::Write(view, key, value)),
        1 => (0..6u8, value).prop_map(|(key, value)| Step::SaveWritePutBack(key, value)),
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
    /// Two maps, each written by its own version, are what the two views are; going back leaves the second.
    #[test]
    fn each_version_has_what_it_has_written(steps in prop::collection::vec(step(), 0..60)) {
        let first: HashMap<EntryBytes, EntryBytes> = (0..3).map(|at| (of(&[at]), of(&[at]))).collect();
        let mut stored: Stored = [first.clone(), HashMap::new()];
        let mut entries = SharedEntries::new("totals", 1 << 20, first.clone());
        let mut waiting = entries.clone();
        waiting.step_aside();
        let mut models = [first.clone(), first];
        checkpoint(&entries, &mut stored);
        let mut at_checkpoint = models.clone();
        for step in steps {
            match step {
                Step::Write(view, key, value) => {
                    let model = &mut models[view as usize];
                    match value {
                        Some(value) => model.insert(of(&[key]), of(&[value])),
                        None => model.remove(&of(&[key])),
                    };
                    entries.lock().write(view, &[key], value.map(|value| of(&[value])));
                }
                Step::SaveWritePutBack(key, value) => {
                    entries.save();
                    entries.lock().write(View::Running, &[key], value.map(|value| of(&[value])));
                    entries.put_back();
                }
                Step::Checkpoint => {
                    checkpoint(&entries, &mut stored);
                    at_checkpoint = models.clone();
                }
                Step::Restart => {
                    let differs = stored[1].clone().into_iter().collect();
                    entries = SharedEntries::new("totals", 1 << 20, stored[0].clone()).with_waiting(differs);
                    waiting = entries.waiting_as_stored();
                    models = at_checkpoint.clone();
                }
            }
            for (view, model) in [View::Running, View::Waiting].into_iter().zip(&models) {
                let entries = entries.lock();
                for key in 0..6 {
                    prop_assert_eq!(entries.get(view, &[key]), model.get(&of(&[key])));
                }
                let bytes = model.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>();
                prop_assert_eq!(entries.size(view), (model.len(), bytes));
                let differs = entries.waiting.as_ref().unwrap().differs.len();
                prop_assert!(differs <= models[0].len() + models[1].len(), "{} differ", differs);
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
    waiting.lock().write(View::Waiting, b"a", Some(of(b"1")));
    let mut stored = Stored::default();
    checkpoint(&running, &mut stored);
    assert_eq!(stored[1].len(), 1);
    running.step_in(true);
    assert_eq!(waiting.size(), (1, 2), "somebody needs it");
    running.step_in(false);
    checkpoint(&running, &mut stored);
    assert_eq!(stored, Stored::default());
    waiting.lock().write(View::Waiting, b"a", Some(of(b"2")));
    assert_eq!(running.size(), (0, 0), "and writes nothing any more");
}
