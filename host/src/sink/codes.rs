//! What can go wrong at a sink.

use crate::problem::Code;

/// Every code with what it means, for docs/reference/errors.md.
pub const CODES: &[Code] = &[
    Code {
        code: "E0401",
        title: "the target can't be logged in to",
        explanation: "The sink's `url` can't be read, names a database that is not there, or the login is refused.",
    },
    Code {
        code: "E0402",
        title: "a table is missing at the target",
        explanation: "Rows go to a table of the same schema and name, or of the names that plugins give them. They \
                      are made where the sink has `create_tables: true`, else by the statement that is the fix.",
    },
    Code {
        code: "E0403",
        title: "a column is missing at the target",
        explanation: "Every column that leaves the plugins needs one of the same name at the target. Leave it out of \
                      the route, or add it; where the sink has `create_tables: true` it is added.",
    },
    Code {
        code: "E0404",
        title: "the table has no unique key at the target",
        explanation: "Rows are found by their key, so that a row that is sent again is written once. The target needs \
                      a unique index or primary key over the same columns. Under REPLICA IDENTITY FULL changes are \
                      taken without one, and found by all columns; but not copied rows of a table that has a primary key at \
                      the source. A row that changes meanwhile comes by the stream as well, and what is copied when \
                      the host is killed comes again: without a key it would be there twice. The same goes for what plugins \
                      make of such rows where they declare no key.",
    },
    Code {
        code: "E0405",
        title: "another host writes to the target",
        explanation: "One host at a time delivers to a sink: it holds an advisory lock for as long as its connection \
                      lives.",
    },
    Code {
        code: "E0406",
        title: "the target is a copy",
        explanation: "The position that lies beside the rows was stored in another database or cluster, so the target \
                      was restored or cloned. What it holds has to be decided on by a person. A sink of another name \
                      gets a copy of its own, in tables that were emptied.",
    },
    Code {
        code: "E0407",
        title: "the target follows another source",
        explanation: "Its position belongs to another source system. Use another target, or empty the tables and \
                      give the sink another name: without a position it gets a copy of its own.",
    },
    Code {
        code: "E0408",
        title: "the role at the target lacks a privilege",
        explanation: "Rows are looked up, inserted, updated and deleted, and the schema `rowmill` with the positions \
                      has to be made or used. Row-level security must not hold for the role where rows are looked up: those \
                      that a policy hides would be passed over as missing.",
    },
    Code {
        code: "E0409",
        title: "the target can't be reached",
        explanation: "A running pipeline tries again with growing pauses. `rowmill check` and `rowmill remove` say so \
                      at once.",
    },
    Code {
        code: "E0410",
        title: "the target refuses a change",
        explanation: "A constraint, a trigger or a type of the target does not take what the source has. The table \
                      and position are named, and the row by its id; values are not. Of what the target checks at the \
                      commit alone (deferred constraints) it is the transaction that is named: those before it are there.",
    },
    Code {
        code: "E0411",
        title: "the target refuses a statement",
        explanation: "The server's own message with its SQLSTATE is the cause.",
    },
    Code {
        code: "E0412",
        title: "the sink can't take a row",
        explanation: "The row has no form at the sink, for example a value that is not UTF-8. Its id is named.",
    },
    Code {
        code: "E0413",
        title: "a row came into the set without all of its values",
        explanation: "An update made a row match the filter and left a TOASTed column alone. The server doesn't send \
                      such a value, the target never had the row, and nothing that comes later brings it. Under \
                      REPLICA IDENTITY FULL the old row carries it.",
    },
    Code {
        code: "E0414",
        title: "the target has another row of the same key",
        explanation: "The target isn't what the source was: somebody else writes there, or it wasn't empty. Nothing of \
                      the transaction has been applied. Settle the row at the target, let the transaction be with \
                      `rowmill skip`, or set `conflict: skip` or `conflict: overwrite` at the sink. A conflict of a \
                      unique index besides the key is never overwritten: which row would give way isn't known.",
    },
    Code {
        code: "E0415",
        title: "a sink can't skip to that position",
        explanation: "`rowmill skip` moves the position that a Postgres sink keeps at its target: forward, to a commit \
                      that the server has made, while no host is at work. The sink's error names the position.",
    },
    Code {
        code: "E0416",
        title: "the target lacks a type",
        explanation: "`create_tables: true` makes enums and domains as the source has them. Types of extensions and \
                      such as were made by hand have to be there.",
    },
    Code {
        code: "E0417",
        title: "a column at the target gets no value",
        explanation: "It is NOT NULL, has no default and isn't among those that arrive: every new row would be refused.",
    },
    Code {
        code: "E0418",
        title: "a table at the target differs from what arrives",
        explanation: "A column has another type, or may not be NULL. Values are taken as far as they fit; one that \
                      doesn't stops the sink (E0410). Or the table has no unique key: then its changes are found by all \
                      columns, and it isn't copied (E0404).",
    },
    Code {
        code: "E0419",
        title: "a target's column can't follow the source's",
        explanation: "The route says `on_schema_change: evolve`, and the source has renamed, retyped or dropped a column. \
                      A target renames it where the DDL trigger says that it is the same one, gives it a wider type, and \
                      drops NOT NULL where no value comes any more. What would lose values, or what the target refuses, is \
                      left to you: the fix is the statement. Change its type or its USING as your values need it.",
    },
    Code {
        code: "E0420",
        title: "the files belong to another pipeline",
        explanation: "The manifest beside the files names another pipeline, sink or source. Two sinks never share a \
                      path.",
    },
    Code {
        code: "E0421",
        title: "a file without a manifest is in the way",
        explanation: "Without a manifest nothing says how far a file is whole, so it is somebody else's, and is neither \
                      written to nor removed; nor is one with a number, `orders.000001.jsonl`, that the manifest doesn't list. \
                      Where a manifest was lost, its files' lines are whole up to the last line break; transactions at their \
                      end may not be.",
    },
    Code {
        code: "E0422",
        title: "the manifest can't be read",
        explanation: "It was written by another version or damaged. Files and manifest belong together: move both \
                      away to begin anew.",
    },
    Code {
        code: "E0423",
        title: "a file is shorter than its manifest says",
        explanation: "Something has cut it since it was made durable. Rows that it held are gone.",
    },
    Code {
        code: "E0424",
        title: "the file can't be written",
        explanation: "The folder can't be made, is no folder, or this user may not write there.",
    },
    Code {
        code: "E0425",
        title: "a target has lost what it had",
        explanation: "The state knows how far each Postgres target had come by its own commits. This one holds less than \
                      that: it was restored from a backup, has failed over to a standby that lagged, was emptied, or the \
                      sink's `url` names another one. What is missing there was acknowledged, so the server doesn't send \
                      it again. Where the target can be brought to where it was, do that. Else a sink of another name \
                      gets a copy of its own; rows that the source has deleted meanwhile would stay in tables that \
                      aren't emptied first. A target that only lost what the stream still brings is followed, with a \
                      warning. With `snapshot: never` nothing is copied: a sink of another name goes on without what is \
                      missing.",
    },
    Code {
        code: "E0426",
        title: "the stream begins behind what a target holds",
        explanation: "The target has a position that another state left there, before the slot was made: of a pipeline whose \
                      state and slot are gone, or of another host with a slot of its own. Changes that were committed in \
                      between aren't streamed, and a copy brings no deletes. `rowmill remove` takes positions away together \
                      with slot and state.",
    },
    Code {
        code: "E0440",
        title: "a table isn't one for an audit trail",
        explanation: "With `mode: audit` changes go to a table with Bemi's columns, and `ordinal` and `fan_out`, which \
                      its unique index needs too: changes of one COPY have the same position. Rowmill makes the table \
                      where it is missing, and leaves one that is there alone: the fix is the statement that changes it.",
    },
    Code {
        code: "E0441",
        title: "an audit trail gets no whole row from before a change",
        explanation: "Postgres logs the old row of an update or delete as a whole only under REPLICA IDENTITY FULL. Else \
                      `before` is empty, or the key.",
    },
    Code {
        code: "E0442",
        title: "a target can't be a relay",
        explanation: "With `relay` others read the target by logical replication, which its server has to write WAL for. \
                      The setting counts from the server's next start.",
    },
    Code {
        code: "E0444",
        title: "a change's place in an audit trail is taken",
        explanation: "Changes are known by their database's name, table, operation and place in the WAL. Another cluster's, \
                      or those of this one before it was restored, may have the same: the table has one of another \
                      transaction there. A change that was told before is left as it is.",
    },
];
