//! What a slot would send before a position, as far as a server's history is known by it.

use crate::batch::Lsn;
use crate::checkpoint::{Commit, FoundCommit};
use tokio_postgres::{Client, Error};

/// So many at most are asked for: with that many it isn't known what is before them.
pub const COMMITS_MAX: usize = 1000;

/// The newest ones: the last may end behind the position, where that lies within its record. Transactions that bring no row of
/// a table are left out, as versions and options differ in whether those are sent. A commit is `C`, a byte of flags, and then
/// where its record begins, big-endian: so its bytes are in the order of the WAL. COMMIT PREPARED is `K`, and alike; where its
/// rows were sent before the slot's position, it comes without.
const COMMITS: &str = "\
SELECT commit, brings_rows FROM (
    SELECT (pg_catalog.array_agg(data) FILTER (WHERE pg_catalog.get_byte(data, 0) IN (67, 75)))[1] AS commit,
        pg_catalog.bool_or(pg_catalog.get_byte(data, 0) IN (73, 85, 68, 84)) AS brings_rows
    FROM pg_catalog.pg_logical_slot_peek_binary_changes($1::text::name, $2::text::pg_lsn, NULL, VARIADIC $3::text[])
    GROUP BY xid::text
    HAVING pg_catalog.bool_or(pg_catalog.get_byte(data, 0) IN (73, 85, 68, 84, 75))
) AS transactions
WHERE commit IS NOT NULL ORDER BY pg_catalog.substr(commit, 3) DESC LIMIT $4";

/// The last commits with rows that the slot would send up to `until`. The server decodes all of it, sends none of the rows, and
/// the slot stays where it is. Nobody may stream from it. A slot for prepared transactions (`two_phase`) is asked for them as the
/// stream does; it is marked so already.
pub async fn last_commits(
    client: &Client,
    slot: &str,
    two_phase: bool,
    publication: &str,
    until: Lsn,
) -> Result<Vec<FoundCommit>, Error> {
    let publication = format!("\"{}\"", publication.replace('"', "\"\""));
    let version = if two_phase { "3" } else { "1" };
    let mut options = vec!["proto_version", version, "publication_names", &publication];
    if two_phase {
        options.extend(["two_phase", "on"]);
    }
    let rows = client
        .query(COMMITS, &[&slot, &until.to_string(), &options, &(COMMITS_MAX as i64)])
        .await?;
    let found = rows.iter().filter_map(|row| {
        Some(FoundCommit {
            commit: commit(row.get(0))?,
            brings_rows: row.get(1),
        })
    });
    Ok(found.collect())
}

/// `C` or `K`, flags, where the record begins, where it ends, when.
fn commit(message: &[u8]) -> Option<Commit> {
    let (_, rest) = message.split_at_checked(2)?;
    let (lsn, rest) = rest.split_first_chunk()?;
    let (end_lsn, rest) = rest.split_first_chunk()?;
    let (time_us, _) = rest.split_first_chunk()?;
    Some(Commit {
        lsn: u64::from_be_bytes(*lsn),
        end_lsn: u64::from_be_bytes(*end_lsn),
        time_us: i64::from_be_bytes(*time_us),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_message_is_read_and_a_short_one_is_none() {
        let mut message = b"C\0".to_vec();
        message.extend([0, 0, 0, 1, 0, 0, 0, 0x10, 0, 0, 0, 1, 0, 0, 0, 0x40]);
        message.extend((-5_i64).to_be_bytes());
        let expected = Commit {
            lsn: 0x1_0000_0010,
            end_lsn: 0x1_0000_0040,
            time_us: -5,
        };
        assert_eq!(commit(&message), Some(expected));
        for length in 0..message.len() {
            assert_eq!(commit(&message[..length]), None, "{length}");
        }
    }
}
