//! The instruments of the tests: private Postgres clusters, the binary as a child process.
