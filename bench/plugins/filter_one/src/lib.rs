//! A filter that reads one column.

use rowmill_plugin::prelude::*;

#[filter(read(status))]
fn filter_one(row: &Row) -> Result<bool> {
    Ok(row.text("status")? == Some("paid"))
}
