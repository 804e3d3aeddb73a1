//! Passes the rows whose `status` is `paid` or `shipped`: what the demo swaps `paid_only` for while it runs.

use rowmill_plugin::prelude::*;

#[filter(read(status))]
fn paid_or_shipped(row: &Row) -> Result<bool> {
    Ok(matches!(row.text("status")?, Some("paid" | "shipped")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rowmill_plugin::{row, testing};

    #[test]
    fn paid_and_shipped_rows_match() {
        let mut plugin = testing::filter::<paid_or_shipped>();
        let verdicts = plugin.verdicts(&[
            row! { id: 1, status: "paid" },
            row! { id: 2, status: "open" },
            row! { id: 3, status: None::<&str> },
            row! { id: 4, status: "shipped" },
        ]);
        assert_eq!(verdicts, [Ok(true), Ok(false), Ok(false), Ok(true)]);
    }
}
