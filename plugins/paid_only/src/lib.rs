//! Passes the rows whose `status` is `paid`.

use rowmill_plugin::prelude::*;

#[filter(read(status))]
fn paid_only(row: &Row) -> Result<bool> {
    Ok(row.text("status")? == Some("paid"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rowmill_plugin::{row, testing, testing::Cell};

    #[test]
    fn only_paid_rows_match() {
        let mut plugin = testing::filter::<paid_only>();
        let verdicts = plugin.verdicts(&[
            row! { id: 1, status: "paid" },
            row! { id: 2, status: "open" },
            row! { id: 3, status: None::<&str> },
            row! { id: 4, status: "PAID" },
            row! { id: 5, status: "paid" },
        ]);
        assert_eq!(verdicts, [Ok(true), Ok(false), Ok(false), Ok(false), Ok(true)]);
    }

    #[test]
    fn an_unchanged_status_is_an_error_of_the_row() {
        let mut plugin = testing::filter::<paid_only>();
        let error = plugin.matches(row! { id: 1, status: Cell::Unchanged }).unwrap_err();
        assert_eq!(error.code(), "unchanged");
        assert!(error.reason().contains("status"));
    }

    #[test]
    fn a_table_without_status_is_refused() {
        let mut plugin = testing::filter::<paid_only>();
        let error = plugin.matches(row! { id: 1 }).unwrap_err();
        assert_eq!(error.reason(), "table public.sample has no column status");
    }
}
