//! What a slot would send before a position, as far as a server's history is known by it.

use crate::batch::Lsn;
use crate::checkpoint::Commit;
use tokio_postgres::{Client, Error};

/// The newest two: one may end behind the position, where that lies within its record. Transactions that bring no row of
/// a table are left out, as versions and options differ in whether those are sent. A commit is `C`, a byte of flags, and then
/// where its record begins, big-endian: so its bytes are in the order of the WAL.
const COMMITS: &str = "\
SELECT commit FROM (
    SELECT (pg_catalog.array_agg(data) FILTER (WHERE pg_catalog.get_byte(data, 0) = 67))[1] AS commit
    FROM pg_catalog.pg_logical_slot_peek_binary_changes($1::text::name, $2::text::pg_lsn, NULL,
        'proto_version', '1', 'publication_names', $3::text)
    GROUP BY xid::text
    HAVING pg_catalog.bool_or(pg_catalog.get_byte(data, 0) IN (73, 85, 68, 84))
) AS transactions
WHERE commit IS NOT NULL ORDER BY commit DESC LIMIT 2";

/// The last commits with rows that the slot would send up to `until`. The server decodes all of it, sends none of the rows, and
/// the slot stays where it is. Nobody may stream from it.
pub async fn last_commits(client: &Client, slot: &str, publication: &str, until: Lsn) -> Result<Vec<Commit>, Error> {
    let publication = format!("\"{}\"", publication.replace('"', "\"\""));
    let rows = client
        .query(COMMITS, &[&slot, &until.to_string(), &publication])
        .await?;
    Ok(rows.iter().filter_map(|row| commit(row.get(0))).collect())
}

/// `C`, flags, where the record begins, where it ends, when.
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
