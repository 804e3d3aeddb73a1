//! A transform that reads six columns of different types and writes one.

use rowmill_plugin::prelude::*;

#[transform(read(id, weight, gift, amount, created_at, status), write(score))]
fn typed_six(row: &Row, patch: &mut Patch) -> Result<()> {
    let id = row.int("id")?.unwrap_or(0);
    let weight = row.float("weight")?.unwrap_or(0.0);
    let gift = row.bool("gift")?.unwrap_or(false);
    let cents = row.numeric("amount")?.and_then(|amount| amount.scaled(2)).unwrap_or(0);
    let created_us = row
        .timestamp_tz("created_at")?
        .and_then(|at| at.unix_micros())
        .unwrap_or(0);
    let length = row.text("status")?.map_or(0, str::len);
    let whole = (id ^ created_us).wrapping_add(cents as i64) % 1_000_000;
    patch.set(
        "score",
        whole as f64 * weight + length as f64 + f64::from(u8::from(gift)),
    );
    Ok(())
}
