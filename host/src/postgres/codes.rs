//! What keeps Rowmill from reaching a Postgres.

use crate::problem::Code;

/// Every code with what it means, for docs/reference/errors.md.
pub const CODES: &[Code] = &[
    Code {
        code: "E0250",
        title: "the connection string can't be used",
        explanation: "A URL (`postgresql://user@host:5432/database?sslmode=require`) or a keyword string (`host=... \
                      dbname=...`), as libpq reads them. What it leaves open comes from the `PG*` variables and the \
                      password file.",
    },
    Code {
        code: "E0251",
        title: "the server can't be reached",
        explanation: "Nothing answers at host and port, or not in time. `rowmill run` tries again with growing \
                      pauses; `rowmill check` says so at once.",
    },
    Code {
        code: "E0252",
        title: "no trusted TLS connection",
        explanation: "The server offers no TLS, or a certificate that `sslmode` doesn't accept. With `verify-full` \
                      the certificate must be signed by a CA of `sslrootcert` and be made for the host's name.",
    },
    Code {
        code: "E0253",
        title: "the password isn't accepted",
        explanation: "The role has another password, or none was given. It comes from the connection string, \
                      `PGPASSWORD` or the password file, in this order. A file that it stands in is read again at each \
                      connection; a server that has let us in before is tried for about two minutes.",
    },
    Code {
        code: "E0254",
        title: "the server lets nobody in from here",
        explanation: "No line of pg_hba.conf allows this role, database, address and kind of connection. Logical \
                      replication counts as a connection to its database: `host DATABASE ROLE ADDRESS scram-sha-256`. The \
                      word `replication` there stands for physical replication alone.",
    },
    Code {
        code: "E0255",
        title: "the database doesn't exist",
        explanation: "The server was reached and the login is good, but there is no database of this name.",
    },
    Code {
        code: "E0256",
        title: "the role lacks a privilege",
        explanation: "The server let the role in and refused what the connection is for. Streaming needs `ALTER ROLE \
                      ... REPLICATION`.",
    },
    Code {
        code: "E0257",
        title: "another kind of server was asked for",
        explanation: "`target_session_attrs` asks for a primary, a standby or a writable server, and none of the \
                      hosts is one.",
    },
    Code {
        code: "E0258",
        title: "the server refuses the connection",
        explanation: "The server's own message with its SQLSTATE is the cause. A later try doesn't change it.",
    },
];
