//! The file's lines: one record each, readable by a person, with a checksum.
//!
//! ```text
//! {"sum":"9f86d081884c7d65","append":[7,1],"letter":{"number":12,…}}
//! {"sum":"60303ae22b998861","append":[7,0],"letter":{"number":13,…}}
//! ```
//!
//! The sum is the beginning of the SHA-256 of what stands between it and the line's end. `append` says which append the
//! line belongs to and how many lines of it are still to come: what was made durable as a whole counts as a whole. So a
//! reader can tell a torn end, which a crash leaves and which nobody was promised, from damage to what was durable.

use super::letter::Letter;
use super::value::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::{self, BufRead};

const SUM_HEX: usize = 16;
const HEAD: &[u8] = b"{\"sum\":\"";
const BEHIND_SUM: &[u8] = b"\",";

/// The format of the file that this version writes and reads.
pub(super) const FORMAT: u32 = 1;

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    /// The first line of a file.
    File(Header),
    /// A letter; one with a number that was there before takes its place.
    Letter(Box<Letter>),
    /// Letters that are no more.
    Gone(Gone),
    /// A later change has made them meaningless: they block nothing, and aren't sent again unless forced.
    Superseded { letters: Vec<u64> },
    /// Letters to be sent again; the same request's later line takes the place of the earlier one. None left: done.
    Replay(Request),
    /// A letter that is gone, of a change that the server may still send again.
    Ghost(Ghost),
    /// A change that a sink can't take, to be set aside when the server sends it again.
    Refused(Refused),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub format: u32,
    pub pipeline: String,
    /// Numbers below were given before.
    pub next_letter: u64,
    pub next_request: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Gone {
    pub letters: Vec<u64>,
    pub why: Why,
    /// µs since 1970.
    pub at_us: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Why {
    Dropped,
    Replayed,
    Expired,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Request {
    pub request: u32,
    /// Those still to be sent.
    pub letters: Vec<u64>,
    pub force: bool,
    /// Those that it sends no more though they may have arrived somewhere: whenever they are sent again, it is under its
    /// number. An earlier line's count on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ghost {
    pub route: String,
    pub lsn: u64,
    pub ordinal: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refused {
    pub route: String,
    pub lsn: u64,
    pub ordinal: u64,
    pub sink: String,
    /// It won't come again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forgotten: bool,
}

#[derive(Serialize, Deserialize)]
struct Body<R> {
    append: (u64, u64),
    #[serde(flatten)]
    record: R,
}

/// Appends the line of a record: the `left` lines behind it belong to the same append.
pub(super) fn write(record: &Record, append: u64, left: u64, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    let body = serde_json::to_vec(&Body {
        append: (append, left),
        record,
    })?;
    // The body begins with the brace that the head brings.
    let body = body.get(1..).unwrap_or_default();
    out.extend_from_slice(HEAD);
    out.extend_from_slice(sum(body).as_bytes());
    out.extend_from_slice(BEHIND_SUM);
    out.extend_from_slice(body);
    out.push(b'\n');
    Ok(())
}

fn sum(body: &[u8]) -> String {
    hex(&Sha256::digest(body)[..SUM_HEX / 2])
}

/// A whole line, without its end: which append, how many lines are still to come, what it says.
pub(super) fn read(line: &[u8]) -> Option<(u64, u64, Record)> {
    let rest = line.strip_prefix(HEAD)?;
    let (found, rest) = rest.split_at_checked(SUM_HEX)?;
    let body = rest.strip_prefix(BEHIND_SUM)?;
    if sum(body).as_bytes() != found {
        return None;
    }
    let mut whole = Vec::with_capacity(body.len() + 1);
    whole.push(b'{');
    whole.extend_from_slice(body);
    let body: Body<Record> = serde_json::from_slice(&whole).ok()?;
    let is_sound = match &body.record {
        Record::Letter(letter) => letter.is_sound(),
        _ => true,
    };
    is_sound.then_some((body.append.0, body.append.1, body.record))
}

/// Where a record stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub offset: u64,
    /// With the line's end.
    pub len: u64,
}

/// How far a file can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Scanned {
    /// Behind the last whole append; what follows was never promised to anybody.
    pub sound_len: u64,
    /// The last whole append.
    pub append: u64,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ScanError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What was durable isn't what it was.
    #[error("the line at byte {0} isn't what was written")]
    Damaged(u64),
}

/// Reads all whole appends, in order.
pub(super) fn scan(file: &mut impl BufRead, mut with: impl FnMut(Place, Record)) -> Result<Scanned, ScanError> {
    let mut scanned = Scanned::default();
    let mut pending: Vec<(Place, Record)> = Vec::new();
    // Of the append that is being read: its number, and how many lines it still has.
    let mut under_way: Option<(u64, u64)> = None;
    let mut torn: Option<(u64, u64)> = None;
    let (mut offset, mut line) = (0, Vec::new());
    loop {
        line.clear();
        let len = file.read_until(b'\n', &mut line)? as u64;
        if len == 0 {
            return Ok(scanned);
        }
        let place = Place { offset, len };
        offset += len;
        let read = line.strip_suffix(b"\n").and_then(read);
        if let Some((broken_at, number)) = torn {
            // Only an append that was durable is followed by another.
            match read {
                Some((append, _, _)) if append > number => return Err(ScanError::Damaged(broken_at)),
                _ => continue,
            }
        }
        let Some((append, left, record)) = read else {
            torn = Some((place.offset, under_way.map_or(scanned.append + 1, |(append, _)| append)));
            continue;
        };
        let fits = match under_way {
            Some(expected) => (append, left) == expected,
            None => scanned.append == 0 || append == scanned.append + 1,
        };
        if !fits {
            return Err(ScanError::Damaged(place.offset));
        }
        pending.push((place, record));
        under_way = left.checked_sub(1).map(|left| (append, left));
        if under_way.is_none() {
            scanned = Scanned {
                sound_len: offset,
                append,
            };
            pending.drain(..).for_each(|(place, record)| with(place, record));
        }
    }
}
