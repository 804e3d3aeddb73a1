//! How to reach a Postgres: connection strings, TLS, authentication. Shared by source, snapshot and the Postgres sink.
