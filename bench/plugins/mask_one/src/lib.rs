//! A mask of one column.

use rowmill_plugin::prelude::*;

#[transform(read(email), write(email))]
fn mask_one(row: &Row, patch: &mut Patch) -> Result<()> {
    if row.text("email")?.is_some() {
        patch.set("email", "***");
    }
    Ok(())
}
