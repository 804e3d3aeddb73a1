//! Copies tables while the stream runs, in units that are merged into it.
//!
//! ```text
//!   workers    BEGIN  LOCK  S,F  COPY (key range)  COMMIT      BEGIN  LOCK  S,F  COPY ...
//!                            |        \                              one unit after the other,
//!                            |         +-- unit: rows as of S, F -+  several at a time
//!   stream     --t1--t2--t3--F--t4--t5----------------------------P--t6--t7-->
//!                                                                 |
//!   merger     remembers the keys that t1, t2, ... change         +-- at a commit's end: reads again what
//!              drops of t6, t7, ... what copied rows hold             S misses, then the rows go out
//! ```
//!
//! # Why there is no gap, no double, and no older value after a newer one
//!
//! Facts about the server. (a) Who changes a row waits until its last writer is visible to others, so for each key
//! the order in which changes become visible is the order of their commits, which is the order of the stream: a
//! snapshot that sees a change of a key sees all that came before it. (b) A commit is in the WAL before it is visible.
//! So whatever S sees committed before a position F that is read once S has been taken. The opposite is not true: a
//! commit before F may be invisible to S, and may be streamed long before anybody sees it. (c) A snapshot taken later
//! sees everything that an earlier one sees.
//!
//! Let a unit be read under S and merged at P, let k be a key, and let t be a transaction that changes it.
//!
//! 1. *k is among the unit's rows, t was streamed before P, and S sees t.* The row holds t, or what came after it:
//!    nothing older goes out.
//! 2. *k is among them, t was streamed before P, and S doesn't see t.* The row is older than what was delivered. It is
//!    taken out; once t is visible the key is read again under a new S, for which case 1 holds, with an F of its own.
//!    That t is known: every streamed change is remembered until all open and all coming snapshots see it.
//! 3. *k is among them, t comes behind P, and S sees t.* The row holds it already, so t is dropped. By (b) this ends
//!    when the stream has passed F; then the unit's keys are let go.
//! 4. *k is among them, t comes behind P, and S doesn't see t.* By (a) it is newer than the row. It is delivered.
//! 5. *k lies in the range but is not among the rows.* Then S sees it absent. Every change of it is delivered, whether
//!    S sees it or not: what S sees ends with k absent, and what follows begins with an insert, which is complete.
//!
//! So behind P the last of what was delivered of k is the last that the stream or the copy had of it, and at every
//! commit behind F the target is, within the unit, what the source was at that commit. Rows that the copy brings and
//! changes that the stream brings are told apart by the visibility of their transaction alone; each goes out once.
//! The ranges leave nothing out: they are cut at keys, the first has no lower bound and the last no upper one.
//!
//! What else is needed for that:
//!
//! - *Before the stream's beginning.* A transaction that committed before the position at which the stream begins is
//!   not streamed; every S has to see it. `barrier` waits for that.
//! - *A key that changes* is a delete of the old key and an insert of the new one, each judged for itself. If the
//!   insert has a value that the server left out as unchanged (TOAST), only the old row has it, and whether the target
//!   has that can't be told: the new key is read again at the next boundary, as in case 2, once its last writer is
//!   visible. An update that leaves such a value out while its row isn't at the target yet is passed over there; the
//!   unit brings the row.
//! - *Two readings of one key*, as those are possible then, are merged in the order in which they were taken: a unit's
//!   key that was read again meanwhile is read once more.
//! - *A key that can't be read again now*, as somebody has a lock on its table or its last writer isn't visible yet, is asked
//!   for at a later boundary (`patience`): the stream of all tables would stand still. A unit that lacks it hasn't gone out until
//!   then, and is looked through once more, while others of the table go out; one that no unit brings is owed (`Merger::owes`).
//!   As long as any is, the stored position stands, and nothing further of any copy counts in the ledger: the two go together.
//! - *TRUNCATE* is delivered and the copy of the table starts over, as another epoch; units read before are thrown
//!   away. It holds a lock that is let go when it is visible, and a unit takes its lock before S: so S sees it.
//! - *A table without a key* is one unit, whose parts several workers may read under one snapshot (`parts`). Its changes
//!   wait until all its rows are out; then those that S sees are dropped by the transaction alone, the others follow, and
//!   so it goes on until the stream has passed F. Its first row is noted before it goes out: a start that finds the note,
//!   with the copy not through, has the targets emptied.
//! - *Filters* may have let an earlier version of a row pass and not let the copied one. What takes it back is a
//!   streamed change, unless that is dropped by case 3. So where a case 3 is possible the copied row goes out as an
//!   update, which a filter turns into a delete; units wait a moment for the stream to pass F, to be plain reads.
//!
//! # Ranges of the heap
//!
//! Where the server finds ranges of `ctid`, the units of a table with a key are ranges of its heap's blocks (`heap`,
//! `TableCopy::file`): read from one end to the other whatever the key, and cut without asking. Cases 1 to 4 speak of keys
//! among a unit's rows and hold as they are. Case 5 doesn't: no key belongs to a range. An update by t may move a row from
//! block b to block a, where a was read under a snapshot that doesn't see t, and b under one that does. Then no unit has
//! it. The other way round two have it.
//!
//! *None.* Let S0 be the oldest S of all units, those included that count from earlier runs; by (c) there is one. The
//! version of a key that S0 sees lies in one block, and the unit of that block either has it, or sees a change of the key
//! that S0 doesn't see. All those changes are streamed while the table is under copy, and the publication sends updates (else
//! units are ranges of the key). So what no unit has is brought by the first change that S0 doesn't see, if the key is there
//! at all: that is delivered, unless a row that went out holds it (case 3). An insert is complete, and so is an update that
//! has all of its values: as long as a table is copied, sinks insert what they don't find. An update without all of them may
//! find nothing. So its key is read again at the next boundary, like an incomplete new key (`Change::Part`), and until then
//! its position isn't stored. That ends when all units are out and the stream has passed their F: then what isn't among
//! them has come. Changes before R are delivered and durable for that reason; those behind R come.
//!
//! *Two.* The newer reading sees a t that the older one doesn't. Where the newer goes out last, nothing goes back. Where the
//! older does, t has been streamed, which is case 2; or it comes yet, but then F of the newer is ahead and its keys are
//! kept: the older one's is read once more, as two readings of one key are.
//!
//! *Blocks* are those of one file. VACUUM FULL, CLUSTER and TRUNCATE make another, and no change tells of the first two. They
//! wait for the locks of units that are being read; a unit reads the number of the file under its lock, and where that
//! isn't the first of its generation, the table starts over. Unlike behind a TRUNCATE what is known of its changes stays:
//! rows are out that they are judged by. The ledger's ranges rest on the file that the table had at the start.
//! What is put behind the last block comes with the stream or the last unit, which has no upper end.
//!
//! # What a start goes on from
//!
//! After a crash the stream begins at the stored position R, which may be before what the sinks had; what was in memory
//! is gone: the keys that were remembered, the units on their way. The ledger has the ranges of the units that *count*.
//! They aren't read again, and nothing is judged by them any more: what R brings of their keys is delivered. That is
//! right because of when a unit counts:
//!
//! - *Its rows, and those of its keys that were read again, are durable at every sink.* It is entered by a mark behind
//!   them, and marks and positions pass the frontier in order.
//! - *The stored position is behind its F, and behind the F of what was read again.* The mark is sent once the stream
//!   has passed them, and stored in one transaction with the position. So case 3 is over: nothing that comes behind R
//!   is in its rows. By the argument above the target is, within the range, what the source was at R, or later where
//!   the sinks are ahead of R and don't take those changes twice.
//! - *No position is stored that owes rows.* Where a key's change came without all of its values, its commit is only
//!   stored behind the rows that were read again for it (`Merger::owes`); else a start behind it would never learn that
//!   they are missing.
//!
//! The other ranges are copied as they are on a first run. Again every S has to see what committed before R, and
//! `barrier` waits for that. It waits for all that ran at the start; so S also sees what the sinks are ahead of R, and
//! no unit brings anything older than they have.
//!
//! A table stays under copy until the stream has passed where the WAL ended at the start, though all its ranges should
//! count. Before, rows that an earlier run has read again may show changes that come now: one that moves such a row
//! on, without all of its values, may find nothing of it at the target.
//!
//! Ranges are given by the keys (or the blocks) between which they lie, as texts in the fixed settings of all connections, so that the
//! cuts stay what they were. Between those that count are gaps, which are cut anew. A unit's number is never given
//! twice: every start is another epoch of its table. After a TRUNCATE the ledger of a table is empty before the next
//! row goes out; where its columns, its file or the sinks are others than they were, it counts for nothing.
//!
//! Rows that go out before their F (keys that were read again mostly; units only beside a stream that lags, as they wait
//! for F, see `Plan::patience`) are stored as ahead before they do: S, F and their keys. If the host is killed in
//! between, case 3 goes on by them, so that the target doesn't go back; whether the rows arrived isn't known, so those
//! that no unit would bring again are read again at the first boundary. Those are what was read beside the units, and of a
//! heap also what was read again for a unit: it lies in whatever block it has moved to, which may count. Where a unit's own
//! row moves on, that is a change which its S doesn't see. They hold until the stored position is behind
//! F. A TRUNCATE lets go of none of it: after a crash it may come again, and what went out behind it shows changes that come once
//! more. By the first time nothing is lost by that: every S of the copy that starts over is newer, so it sees what is dropped.
//! For each worker there are a few turns (`Plan::units_under_way`), each kept by a unit until
//! it counts: so a crash costs so many units per worker.
//!
//! # Copies that begin while the stream runs
//!
//! Tables that are copied again, and tables that come, are planned in the ledger and then join the running stream, at a
//! commit's end where it stands at a position J (`Mergers::join`). For these tables J is what the stream's beginning is
//! for the others, and everything above holds with J in its place; those go on meanwhile. What that rests on:
//!
//! - *Every S sees what was streamed before J.* `barrier` begins when the stream stands at J (`Merger::begin`), and not when
//!   the copy was planned: what was streamed by then is in the WAL, and so it is visible, or runs and is waited for. A barrier
//!   that is through before would let S miss a commit between the two, which nobody remembers.
//! - *What was delivered before J stays before the copy*: both go through the same queue, lanes and sinks, in order.
//! - *What the sinks are ahead of J*, while the stream brings what they had before a crash, had committed before the
//!   session began, and `barrier` began later.
//! - *Nothing of an earlier copy of these tables goes out behind J* (`Merger::give_up`): no unit on its way, no key that is to
//!   be read again, no cover. None of it is needed: what the targets had is emptied at J. Its marks may arrive later; they
//!   name an earlier epoch, and the ledger passes them over.
//! - *The decoder knows the table from J on as the catalog has it*: the copy goes the way of the bytes. So a key that only
//!   the catalog tells is the same in copy and stream.
//!
//! Until the barrier is through, which may take as long as a transaction that sits idle, no key is read again: who
//! waited for that would hold up all tables. Positions wait instead (`Merger::owes`).
//!
//! A session begins with all copies in the ledger, those that should have joined the one before among them.
//!
//! *Again*: the targets have rows that nothing else would take away, those that the source lost while nobody told. So
//! at J, before any unit and any later batch, a TRUNCATE goes out that the source never made. What was
//! delivered before it is gone with it, and every S sees all of that. What comes behind it is merged as ever. The
//! ledger has it as due from before the copy joins until it is durable everywhere, in one transaction with the position, and
//! counts no unit before: a start in between empties at R, and copies all of it. What an earlier copy had ahead is restored by
//! such a start though it is gone from the targets. That is harmless: S of the new copy is newer, so it sees what is dropped.
//!
//! *New*: what the server sends of a table begins where the publication has it, as of the decoded position. The
//! publication has it before the copy joins, so every S sees that, and with it all that committed before. But a
//! transaction may have changed the table before and commit behind it, with nothing of it in the stream. `barrier`
//! waits for those that are idle too then (`Plan::patient`), as the server does when it makes a slot.
//! What was streamed of it before J went out, as nobody knew of the table yet, and the copy brings it once more. By a key that
//! is written over; without one the table is copied *again*, as above, where any of its rows have gone out
//! (`Merger::empty_first`).
//!
//! # Copies for some sinks alone
//!
//! Sinks that come get a copy of a table that the others have. All of the above holds for them: what it sends goes to them
//! alone, units and rows that were read again, and so does what it takes out of the stream (`Batch::copied`). The others get
//! all of the stream, whole and step by step, as if there were no copy. Plugins see a change once, whoever gets it.
//!
//! # Tables that are altered
//!
//! A unit that finds other columns than its table had ends the session, and the next one plans with those that there are:
//! what was counted of the table counts no more. Rows may still come from before, up to where the WAL ended when the
//! columns had been read, and some of them may not even have the key that the copy goes by. Until the stream has passed
//! that, nothing of the table is read (`TableCopy::altered`). What comes meanwhile is delivered, and remembered where it
//! has the key. Where it hasn't, every S sees it: who altered the table waited for whoever had changed it, and S has seen
//! the altered one.
//!
//! A rewrite that leaves the columns and the key what they were is none of this: rows from before are judged by the key
//! that they have. Ranges of the heap are void behind it (see there), and from the next start on those of the key too.
//! A unit looks at the columns before it looks at the file: what alters and rewrites ends the session.
//!
//! While a table is copied its transactions are not atomic at the target. A table without a key gets its changes
//! behind its rows, apart from the rest of their transactions.
//!
//! `merge` has these rules, `merge_model` tests them against a model of server, target and ledger, with a host that is
//! killed at any moment, and `tests/snapshot` and `tests/resumption` do so on a real server.

mod codes;
mod barrier;
mod cut;
mod fault;
mod floors;
mod heap;
mod key;
mod merge;
#[cfg(test)]
mod merge_model;
mod merger;
mod mergers;
mod outgoing;
mod pace;
mod parts;
mod patience;
mod plan;
mod read;
mod reread;
mod shared;
mod sql;
mod start;
mod table;
mod visibility;
mod waiting;
mod worker;

pub use codes::CODES;
pub use fault::{ALTERED, lost_what_waited};
pub use merger::{CountedUnit, MergedUnit, Merger, TableEpoch};
pub use mergers::Mergers;
pub use pace::Pace;
pub use plan::{Ahead, KeyRange, Plan, TableCopy, TableProgress, Tally, UnitRecord};
pub use start::{Copier, prepare, start};
pub use visibility::{NotASnapshot, Snapshot};
pub use waiting::{Waited, WaitingRoom};
