//! What ends a run or a check and belongs to no stage alone.

use crate::problem::Code;

pub(super) const NOT_COMPARED: &str = "E0443";
/// Shared with the verb, which asks the console first.
pub(crate) const NOT_READY: &str = "E0450";
pub(super) const NOT_CAUGHT_UP: &str = "E0451";
pub(super) const STILL_WRITTEN: &str = "E0452";
pub(super) const SEQUENCES_REFUSED: &str = "E0453";
pub(super) const NO_PLACE: &str = "E0454";

/// Every code with what it means, for docs/reference/errors.md.
pub const CODES: &[Code] = &[
    Code {
        code: "E0259",
        title: "the server refuses to stream",
        explanation: "The server's own message with its SQLSTATE is the cause.",
    },
    Code {
        code: "E0260",
        title: "the server ended the stream",
        explanation: "It sent an error in the middle of the stream. The position is stored, so the next start goes on \
                      there.",
    },
    Code {
        code: "E0261",
        title: "a message of the stream can't be decoded",
        explanation: "The server sent something that the protocol doesn't have, or something in between has changed it: \
                      the same bytes came on a second connection. Without TLS nothing but the checksums of TCP guards \
                      the way.",
    },
    Code {
        code: "E0262",
        title: "the folder for transactions in progress can't be used",
        explanation: "With `stream_transactions: true` large transactions are received while they are in progress, and \
                      kept in the folder `spill` of the state folder until they commit. It is emptied at each start.",
    },
    Code {
        code: "E0263",
        title: "a change was made while the publication wasn't there",
        explanation: "It was dropped, or the table was changed before it was made again. The server reads its catalog \
                      as of the change, so that a publication that is there again doesn't help: the change and all \
                      behind it can't be streamed from this slot. The cause has its position.",
    },
    Code {
        code: "E0264",
        title: "a row is larger than max_row",
        explanation: "A row is held in memory as a whole, more than once on its way. Nothing of this one was taken in, \
                      and nothing behind it is acknowledged.",
    },
    Code {
        code: "E0265",
        title: "the server can't send a row",
        explanation: "Postgres makes no text of 1 GiB or more, and a `bytea` takes two characters for each byte. With \
                      `binary: true` it comes in its own size, which may be nearly 1 GiB for the whole row. As text the \
                      change can't be streamed from this slot, whatever becomes of the row later.",
    },
    Code {
        code: "E0266",
        title: "prepared transactions can't be kept",
        explanation: "With `two_phase: true` the rows of a prepared transaction are kept in the folder `prepared` of the \
                      state folder until it is committed or rolled back: the server sends them once. They count in \
                      `spill`. Nothing is lost where there is no room: the position doesn't pass the PREPARE, so that \
                      the server keeps it.",
    },
    Code {
        code: "E0267",
        title: "the folder of prepared transactions can't be used",
        explanation: "What lies in `prepared` of the state folder are rows that the server doesn't send again. The cause \
                      is the system's, or the name of a file that isn't as it was written.",
    },
    Code {
        code: "E0268",
        title: "rows of prepared transactions are gone",
        explanation: "With `two_phase: true` they lie in the folder `prepared` of the state folder until they are \
                      committed. They were deleted, or the state is an older one that was put back. The server won't \
                      send them again.",
    },
    Code {
        code: "E0269",
        title: "a value can't be read in binary form",
        explanation: "With `binary: true` values are received as the server keeps them, and text is made of them here. \
                      That isn't possible for every type: a start refuses tables that have others, but a column may \
                      get one while they are streamed, or have had one at the time of the change.",
    },
    Code {
        code: "E0330",
        title: "a module can't be kept",
        explanation: "Every version of a plugin that rows go through is kept in the state folder, so that rows that \
                      are sent again meet the same version.",
    },
    Code {
        code: "E0331",
        title: "a plugin version is not kept any more",
        explanation: "Rows that may be sent again went through it before, and its module is not in the state folder \
                      any more.",
    },
    Code {
        code: "E0332",
        title: "a plugin is gone from the file",
        explanation: "Rows that may be sent again went through it before.",
    },
    Code {
        code: "E0333",
        title: "a new version gives rows another shape",
        explanation: "A reload must not change the columns that reach the sinks, unless `allow_schema_change` says \
                      so.",
    },
    Code {
        code: "E0334",
        title: "the folder for modules can't be made",
        explanation: "It lies in the state folder.",
    },
    Code {
        code: "E0335",
        title: "the plugins' folders can't be watched",
        explanation: "The system has run out of inotify instances or watches.",
    },
    Code {
        code: "E0336",
        title: "a secret of a recorded plugin config is gone",
        explanation: "A plugin's config is recorded with its references, never with its secrets. Rows that may be sent \
                      again went through a version whose config named a variable or file that can't be read now.",
    },
    Code {
        code: "E0337",
        title: "a version of a plugin was set aside",
        explanation: "It broke while it was on probation, or somebody went back to the version before. It isn't taken \
                      up again until the plugin's file or its config changes.",
    },
    Code {
        code: "E0338",
        title: "no plugin is called so",
        explanation: "`rowmill plugin rollback` names a plugin of a pipeline that the running host has.",
    },
    Code {
        code: "E0339",
        title: "a plugin has no version before",
        explanation: "The versions that have passed their probation are kept, the last four of each plugin. There is \
                      none besides the one that runs.",
    },
    Code {
        code: "E0340",
        title: "a plugin's golden samples can't be read",
        explanation: "A new version of a plugin is rehearsed on the samples in the folder that `samples:` names, or in \
                      `NAME.samples` beside the module. The cause names the file and the line.",
    },
    Code {
        code: "E0341",
        title: "a setting can't change while the pipeline runs",
        explanation: "SIGHUP and `rowmill reload` take up tables, routes, plugins, sinks and the settings of copies. What \
                      names the pipeline, its source or its folders needs a restart, and a sink of another target \
                      another name. Nothing of the file was taken up.",
    },
    Code {
        code: "E0508",
        title: "the position can't be stored",
        explanation: "Whatever was not stored was not acknowledged either, and is sent again at the next start.",
    },
    Code {
        code: super::slot_skip::NOT_SKIPPED,
        title: "the slot can't be moved on",
        explanation: "`rowmill slot skip` moves the slot and the stored position past changes that can't be streamed, \
                      while no host runs. They are missing at the sinks then: `rowmill resync TABLE` copies a table \
                      anew, beside the stream.",
    },
    Code {
        code: super::detach::NOT_ATTACHED,
        title: "a sink isn't detached",
        explanation: "With `on_wal_pressure: detach_sink` a sink that makes no progress is left out before it costs the \
                      others the slot. The log says so, at that moment and at each start; `rowmill attach` has it take \
                      part again.",
    },
    Code {
        code: "E0609",
        title: "rows can't be read for a sample",
        explanation: "`rowmill check --sample` reads rows with COPY, as the first copy does.",
    },
    Code {
        code: "E0610",
        title: "a row has no JSON form",
        explanation: "A value is not UTF-8: the database or the connection has another encoding.",
    },
    Code {
        code: "E0611",
        title: "the table isn't streamed",
        explanation: "`rowmill resync` names a table that the running host streams, as `schema.table`. A host that has \
                      just been started may not know its tables yet.",
    },
    Code {
        code: NOT_COMPARED,
        title: "tables can't be compared",
        explanation: "`rowmill verify` reads the tables on both sides with the urls of the pipeline's file. The cause is \
                      the server's own.",
    },
    Code {
        code: NOT_READY,
        title: "the pipeline isn't ready for a cut-over",
        explanation: "`rowmill cutover` needs a running host that streams and has copied every table, and a primary that \
                      can be asked. The cause names what is missing.",
    },
    Code {
        code: NOT_CAUGHT_UP,
        title: "the stream hasn't caught up",
        explanation: "What was committed at the source when `rowmill cutover` began isn't durable at every sink yet. \
                      `--wait` says how long that may take; `rowmill status` names what it waits for.",
    },
    Code {
        code: STILL_WRITTEN,
        title: "the source is still written to",
        explanation: "With `--writes-stopped` no transaction may write the tables any more. One is in progress, a row \
                      came, or a sequence moved. What has been set at the target stays set: run it again once nothing \
                      writes.",
    },
    Code {
        code: SEQUENCES_REFUSED,
        title: "sequences can't be read or set",
        explanation: "The source's role needs SELECT on the sequences, the target's SELECT and UPDATE. The cause is the \
                      server's own, and names the sequence.",
    },
    Code {
        code: NO_PLACE,
        title: "no sink can take the source's place",
        explanation: "A cut-over is for a Postgres sink in mode `mirror` or `upsert`, whose tables hold the source's \
                      rows. Where there are several, one is named.",
    },
];
