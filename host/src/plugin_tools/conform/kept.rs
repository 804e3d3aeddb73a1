//! What a plugin keeps: another instance goes on with it exactly, and bytes that it can't read are refused.
//!
//! ```text
//!   one instance        c1 c2 c3 | c4 c5 c6        what comes of c4 to c6 must be the same:
//!   that was asked      c1 c2 c3 ? c4 c5 c6        where it was asked for what it keeps in between,
//!   and another one              ? c4 c5 c6        and where a new instance goes on with that
//! ```

use super::{Case, Verdict, case, differs, failed};
use crate::batch::Batch;
use crate::plugin::{Chain, Kept, PluginError, SharedEntries, State};
use crate::plugin_tools::Subject;
use crate::plugin_tools::golden::Run;
use std::sync::Arc;

const MIGRATE: &str = "rowmill_migrate";

pub(super) fn cases(subject: &Subject, usable: &[(String, Batch)], previous: Option<&Subject>) -> Vec<Case> {
    let manifest = subject.version.module.manifest();
    let mut cases = Vec::new();
    if !manifest.keeps_state() {
        let why = "its manifest names neither a state_scope nor the feature kv".to_owned();
        return vec![case("state and kv", Verdict::NotApplicable(why))];
    }
    for (name, batch) in usable {
        let verdict = resumed(subject, batch).unwrap_or_else(|error| failed(&error));
        cases.push(case(&format!("kept: {name}: a new instance goes on exactly"), verdict));
    }
    if manifest.is_by_key() {
        for (name, batch) in usable {
            let verdict = divided(subject, batch).unwrap_or_else(|error| failed(&error));
            cases.push(case(
                &format!("state_scope: key: {name}: divided, it gives the same"),
                verdict,
            ));
        }
    }
    if manifest.has_state() {
        let own = usable.first().map(|(_, batch)| batch);
        let verdict = damaged(subject, own).unwrap_or_else(|error| failed(&error));
        cases.push(case("state: bytes that it can't read don't break it", verdict));
        let verdict = older(subject, usable, previous).unwrap_or_else(|error| failed(&error));
        cases.push(case("state: of an older version", verdict));
    } else {
        let why = "its manifest names no state_scope".to_owned();
        cases.push(case("state", Verdict::NotApplicable(why)));
    }
    if manifest.has_entries() {
        for (name, batch) in usable {
            let verdict = no_room(subject, batch).unwrap_or_else(|error| failed(&error));
            cases.push(case(&format!("kv: {name}: a quota that allows nothing"), verdict));
        }
    } else {
        let why = "its manifest doesn't ask for kv".to_owned();
        cases.push(case("kv", Verdict::NotApplicable(why)));
    }
    cases
}

/// What a chain of one plugin has kept so far. Its entries are copied: the chain goes on with its own.
fn kept(chain: &mut Chain) -> Result<Kept, PluginError> {
    Ok(Kept {
        state: chain.checkpoint()?.pop().map(|kept| kept.state),
        entries: chain.entries().next().map(|entries| entries.fork()),
    })
}

/// Changes after which it is asked: none, one, half of them, all but one.
fn points(batch: &Batch) -> [usize; 4] {
    let rows = batch.rows.len();
    [0, 1.min(rows), rows / 2, rows.saturating_sub(1)]
}

fn resumed(subject: &Subject, batch: &Batch) -> Result<Verdict, PluginError> {
    let rows = batch.rows.len();
    for point in points(batch) {
        let mut never_asked = Run::new(subject.start()?, batch)?;
        never_asked.piece(batch, 0..point)?;
        never_asked.piece(batch, point..rows)?;
        let expected = never_asked.end().1.changes;

        let mut run = Run::new(subject.start()?, batch)?;
        run.piece(batch, 0..point)?;
        let (mut asked, begun) = run.end();
        let kept = kept(&mut asked)?;
        // In this order: what the first instance writes from here on is no business of the second.
        let mut new = Run::new(subject.resume(kept)?, batch)?;
        new.piece(batch, point..rows)?;
        let mut asked = Run::new(asked, batch)?;
        asked.piece(batch, point..rows)?;

        for (run, what) in [
            (asked, "where it was asked for what it keeps"),
            (new, "in a new instance that goes on with what it kept"),
        ] {
            let changes = [&begun.changes[..], &run.end().1.changes].concat();
            if let Some(verdict) = differs(&expected, &changes, what) {
                return Ok(verdict);
            }
        }
    }
    Ok(Verdict::Pass)
}

/// What it keeps of a row must follow from the row's own changes.
fn divided(subject: &Subject, batch: &Batch) -> Result<Verdict, PluginError> {
    let rows = batch.rows.len();
    let mut of_one = Run::new(subject.start()?, batch)?;
    of_one.piece(batch, 0..rows)?;
    let mut of_several = Run::new(subject.start_divided()?, batch)?;
    of_several.piece(batch, 0..rows)?;
    let what = "where its rows are divided by key among several instances";
    let verdict = differs(&of_one.end().1.changes, &of_several.end().1.changes, what);
    Ok(verdict.unwrap_or(Verdict::Pass))
}

/// It may take any bytes for its state, or refuse them; it must not break.
fn damaged(subject: &Subject, batch: Option<&Batch>) -> Result<Verdict, PluginError> {
    let mut chain = subject.start()?;
    if let Some(batch) = batch {
        let mut run = Run::new(chain, batch)?;
        run.piece(batch, 0..batch.rows.len())?;
        chain = run.end().0;
    }
    let Some(State { version, bytes }) = kept(&mut chain)?.state else {
        return Ok(Verdict::Fail("it gives no state".to_owned()));
    };
    let longer = [&bytes[..], b"\0"].concat();
    let shorter = &bytes[..bytes.len().saturating_sub(1)];
    for bytes in [shorter, &longer, b"", b"\xff\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff"] {
        if let Some(verdict) = takes_or_refuses(subject, version, bytes) {
            return Ok(verdict);
        }
    }
    Ok(Verdict::Pass)
}

fn takes_or_refuses(subject: &Subject, version: u32, bytes: &[u8]) -> Option<Verdict> {
    let state = State {
        version,
        bytes: Arc::from(bytes),
    };
    let kept = Kept {
        state: Some(state),
        entries: None,
    };
    match subject.resume(kept) {
        Ok(_) | Err(PluginError::Refused(_)) => None,
        Err(error) => Some(failed(&error)),
    }
}

/// What the version before has kept is taken up, and kept in turn.
fn older(subject: &Subject, usable: &[(String, Batch)], previous: Option<&Subject>) -> Result<Verdict, PluginError> {
    let version = subject.version.module.manifest().state_version;
    if version < 2 {
        return Ok(Verdict::NotApplicable(format!("its state_version is {version}")));
    }
    if !subject.version.module.exports().iter().any(|name| name == MIGRATE) {
        let why = format!("it doesn't export {MIGRATE}: state of older versions is refused");
        return Ok(Verdict::NotApplicable(why));
    }
    for bytes in [&b""[..], b"\xff\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff"] {
        if let Some(verdict) = takes_or_refuses(subject, version - 1, bytes) {
            return Ok(verdict);
        }
    }
    let Some(previous) = previous else {
        return Ok(Verdict::Pass);
    };
    for (_, batch) in usable {
        let (half, rows) = (batch.rows.len() / 2, batch.rows.len());
        let mut run = Run::new(previous.start()?, batch)?;
        run.piece(batch, 0..half)?;
        let given = kept(&mut run.end().0)?;
        let migrated = || {
            let entries = given.entries.as_ref().map(SharedEntries::fork);
            let state = given.state.clone();
            subject.resume(Kept { state, entries })
        };
        let mut first = Run::new(migrated()?, batch)?;
        first.piece(batch, half..rows)?;
        let again = kept(&mut migrated()?)?;
        let mut second = Run::new(subject.resume(again)?, batch)?;
        second.piece(batch, half..rows)?;
        let what = "where what it made of the older state was kept in between";
        if let Some(verdict) = differs(&first.end().1.changes, &second.end().1.changes, what) {
            return Ok(verdict);
        }
    }
    Ok(Verdict::Pass)
}

/// `kv_put` answers -1: rows may be rejected for it, but nothing breaks.
fn no_room(subject: &Subject, batch: &Batch) -> Result<Verdict, PluginError> {
    let entries = SharedEntries::new(&subject.version.name, 0, []);
    let kept = Kept {
        state: None,
        entries: Some(entries),
    };
    let mut run = Run::new(subject.resume(kept)?, batch)?;
    run.piece(batch, 0..batch.rows.len())?;
    Ok(Verdict::Pass)
}
