//! The table that most benchmarks stream: seven columns, 196 bytes a row on the wire.

use anyhow::Result;
use rowmill_tests::Cluster;

pub const DATABASE: &str = "postgres";

/// The table, and a publication `bench` of it.
pub fn create(cluster: &Cluster) -> Result<()> {
    let columns =
        "id bigint PRIMARY KEY, status text, email text, phone text, total numeric, note text, at timestamptz";
    cluster.sql(
        DATABASE,
        &format!("CREATE TABLE orders ({columns}); CREATE PUBLICATION bench FOR TABLE orders"),
    )?;
    Ok(())
}

/// Writes `rows` rows in transactions of `transaction` rows, and returns the position behind them.
pub fn load(cluster: &Cluster, rows: u64, transaction: u64) -> Result<String> {
    println!("loading {rows} rows");
    cluster.sql(
        DATABASE,
        &format!(
            "DO $$ BEGIN FOR lowest IN 0..{} BY {transaction} LOOP
             INSERT INTO orders SELECT n, CASE WHEN n % 10 = 0 THEN 'open' ELSE 'paid' END,
             'customer' || n || '@example.com', '+49 30 ' || lpad(n::text, 8, '0'), (n % 10000) / 100.0,
             'a note of some forty characters, more or less', '2026-01-01'::timestamptz + n * interval '1 s'
             FROM generate_series(lowest, least(lowest + {transaction}, {rows}) - 1) n; COMMIT; END LOOP; END $$",
            rows - 1
        ),
    )?;
    cluster.sql(DATABASE, "CHECKPOINT")?;
    cluster.sql(DATABASE, "SELECT pg_current_wal_flush_lsn()")
}
