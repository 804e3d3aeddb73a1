//! The codes of everything that can be wrong with a source. Stable for ever: a code is never given to another
//! meaning, and every one has an anchor in docs/reference/errors.md.

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal;)+) => {
        $($(#[doc = $doc])+ pub const $name: &str = $code;)+

        /// Every code with what it means, in order: what the reference is made from.
        pub const ALL: &[(&str, &str)] = &[$(($code, concat!($($doc,)+))),+];
    };
}

codes! {
    /// The server is older than Rowmill can work with.
    SERVER_TOO_OLD = "E0201";
    /// `wal_level` is not `logical`, so the server logs too little to decode.
    WAL_LEVEL = "E0202";
    /// The server is a standby, where the primary is needed.
    STANDBY = "E0203";
    /// The role may not start replication.
    ROLE_REPLICATION = "E0204";
    /// The host is a connection pooler, which passes no replication on.
    POOLED_HOST = "E0205";
    /// The role may not read a selected table.
    SELECT_DENIED = "E0206";
    /// The replication slot is lost: the server no longer has the WAL that it stood for.
    SLOT_LOST = "E0207";
    /// All replication slots of the server are taken.
    SLOTS_TAKEN = "E0208";
    /// All WAL senders of the server are taken.
    SENDERS_TAKEN = "E0209";
    /// A table named in the configuration does not exist.
    TABLE_MISSING = "E0210";
    /// A table has no usable replica identity: publishing it would break the application's own UPDATE and DELETE.
    NO_IDENTITY = "E0211";
    /// What was selected is not a table whose changes are logged: a view, a foreign, unlogged or temporary table.
    NOT_REPLICATED = "E0212";
    /// The publication to adopt does not exist.
    PUBLICATION_MISSING = "E0213";
    /// The adopted publication lacks a selected table, whose changes would silently not flow.
    PUBLICATION_LACKS = "E0214";
    /// The publication that Rowmill made has other tables than the configuration.
    PUBLICATION_DIFFERS = "E0215";
    /// The role may not create the publication.
    PUBLICATION_DENIED = "E0216";
    /// The slot belongs to another database.
    SLOT_DATABASE = "E0217";
    /// The slot decodes with another plugin than pgoutput.
    SLOT_PLUGIN = "E0218";
    /// The slot is a physical one.
    SLOT_PHYSICAL = "E0219";
    /// The slot is in use by another consumer.
    SLOT_ACTIVE = "E0220";
    /// No table is selected.
    NOTHING_SELECTED = "E0221";
    /// The server refused a query that Rowmill needs, or the connection broke.
    QUERY_REFUSED = "E0222";
    /// Row-level security hides rows of a selected table from the role, so a copy would silently lack them.
    ROW_SECURITY = "E0223";
    /// The slot does not exist.
    SLOT_MISSING = "E0224";
    /// The pipeline asks for a failover slot, and the server is older than those.
    FAILOVER_VERSION = "E0225";
    /// There are standbys, and none of them keeps the slot: it is gone behind a failover.
    FAILOVER_WITHOUT = "E0226";
    /// There are standbys that the server doesn't wait for before it sends: the slot may be ahead of what they have.
    FAILOVER_AHEAD = "E0227";
    /// The server is older than the versions that Rowmill is tested with, or lacks a fix without which changes may be missing.
    SERVER_OLD = "E0230";
    /// The database's encoding is not UTF8.
    ENCODING = "E0231";
    /// The publication does not publish all operations.
    PUBLICATION_OPERATIONS = "E0232";
    /// The publication has a row filter on a table.
    ROW_FILTER = "E0233";
    /// The publication has a column list on a table.
    COLUMN_LIST = "E0234";
    /// The publication has tables that are not selected: they are received and dropped.
    PUBLICATION_EXTRA = "E0235";
    /// The slot is about to be lost.
    SLOT_AT_RISK = "E0236";
    /// The slot was made with two_phase, and the pipeline doesn't ask for it.
    SLOT_TWO_PHASE = "E0237";
    /// Updates of a table leave large unchanged values out of the stream.
    UNCHANGED_TOAST = "E0238";
    /// Sequences are not replicated.
    SEQUENCES = "E0239";
    /// A pattern also matches relations that cannot be replicated; they are left out.
    LEFT_OUT = "E0240";
    /// A pattern with wildcards matches no table.
    PATTERN_UNMATCHED = "E0241";
    /// `snapshot: where` names a table that isn't followed, or holds a condition that the server doesn't take.
    BAD_CONDITION = "E0242";
    /// The pipeline asks for values in binary form, and a column is of a type whose text can't be told from it: `regclass` and
    /// its like, extensions' types that Rowmill doesn't know. Or the server sends none.
    BINARY = "E0243";
    /// The server sends nothing of partitions that are attached, detached, dropped or emptied on their own.
    PARTITIONS = "E0244";
    /// The server is too old for two_phase.
    TWO_PHASE_VERSION = "E0247";
    /// An adopted slot may have handed over the rows of a prepared transaction to somebody else.
    PREPARED_BEFORE = "E0248";
    /// The server refuses to install the DDL trigger or to take it down: that takes a superuser.
    DDL_TRIGGER_REFUSED = "E0249";
}

/// What stops nothing.
pub const NOTICES: &[&str] = &[
    SERVER_OLD,
    ENCODING,
    PUBLICATION_OPERATIONS,
    ROW_FILTER,
    COLUMN_LIST,
    PUBLICATION_EXTRA,
    SLOT_AT_RISK,
    UNCHANGED_TOAST,
    SEQUENCES,
    LEFT_OUT,
    PATTERN_UNMATCHED,
    PARTITIONS,
    FAILOVER_WITHOUT,
    FAILOVER_AHEAD,
];

/// What a running pipeline has taken itself: no hindrance for whoever looks beside it.
pub const OF_RUNNING: &[&str] = &[SLOT_ACTIVE, SENDERS_TAKEN, SLOTS_TAKEN];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_within_the_range_of_the_source() {
        assert!(ALL.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(
            ALL.iter()
                .all(|(code, doc)| ("E0201".."E0250").contains(code) && doc.ends_with('.'))
        );
    }
}
