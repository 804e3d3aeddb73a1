use super::*;
use rowmill_plugin::testing::{self, Cell, Outcome, Table, TransformHost};
use rowmill_plugin::{Op, row};
use serde_json::json;

const SALT: &str = "salt";
/// `printf ada@example.org | openssl dgst -sha256 -hmac salt`
const ADA: &str = "ad922a3632bea6f5f74bdd96981e3c7c45faa3ac36c65b4891440c52787d03f8";

fn plugin(config: serde_json::Value) -> TransformHost<MaskPii> {
    testing::transform_with::<MaskPii>(config).expect("the config is right")
}

#[test]
fn the_schema_of_the_config_is_up_to_date() {
    testing::check_config_schema::<Config>(env!("CARGO_MANIFEST_DIR"));
}

#[test]
fn listed_columns_are_hashed_under_the_salt() {
    let mut plugin = plugin(json!({ "columns": ["email"], "salt": SALT }));
    let masked = plugin
        .apply(row! { id: 1, email: "ada@example.org", note: "hello" })
        .row();
    assert_eq!(masked, row! { id: 1, email: ADA, note: "hello" });
}

#[test]
fn each_column_has_its_method() {
    let columns = json!({ "email": "hash", "card": "keep-last-4", "name": "redact" });
    let mut plugin = plugin(json!({ "columns": columns, "salt": SALT }));
    let masked = plugin
        .apply(row! { email: "ada@example.org", card: "4111111111111234", name: "Ada" })
        .row();
    assert_eq!(masked, row! { email: ADA, card: "***1234", name: "***" });
}

#[test]
fn the_last_characters_of_short_values_stay_hidden() {
    let mut plugin = plugin(json!({ "columns": ["pin"], "method": "keep-last-4" }));
    for (pin, masked) in [
        ("", "***"),
        ("1234", "***"),
        ("1234567", "***"),
        ("12345678", "***5678"),
        ("äöüßäöüß", "***äöüß"),
    ] {
        assert_eq!(plugin.apply(row! { pin: pin }).row(), row! { pin: masked });
    }
}

#[test]
fn every_image_is_masked_and_what_is_not_there_stays_away() {
    let mut plugin = plugin(json!({ "columns": ["email", "phone"], "salt": SALT }));
    let rows = [
        row! { email: "ada@example.org", phone: None::<&str> }.old(Op::Update),
        row! { email: "ada@example.org", phone: Cell::Unchanged }.updated(),
        row! { email: "ada@example.org", phone: Cell::Absent }.old_key(Op::Delete),
    ];
    let outcomes = plugin.outcomes(&rows);
    for (outcome, row) in outcomes.into_iter().zip(rows) {
        let masked = outcome.row();
        assert_eq!(masked.text("email"), Some(ADA));
        assert_eq!(masked.get("phone"), row.get("phone"));
    }
}

#[test]
fn a_qualified_column_concerns_its_table_only() {
    let config = json!({ "columns": ["customers.email"], "salt": SALT });
    let orders = Table::new("orders").key("id", types::INT8).column("email", types::TEXT);
    let mut other = plugin(config.clone()).with_table(orders).expect("passed by");
    let row = row! { id: 1, email: "ada@example.org" };
    assert_eq!(other.apply(row.clone()), Outcome::Row(row.clone()));

    let customers = Table::new("customers")
        .key("id", types::INT8)
        .column("email", types::TEXT);
    let mut own = plugin(config).with_table(customers).expect("used");
    assert_eq!(own.apply(row).row().text("email"), Some(ADA));
}

#[test]
fn what_cannot_be_masked_is_refused_before_the_first_row() {
    let refusal = |config: serde_json::Value, table: Table| match plugin(config).with_table(table) {
        Ok(_) => panic!("not refused"),
        Err(error) => error.reason().to_owned(),
    };
    let hash = || json!({ "columns": ["email"], "salt": SALT });
    let redact = || json!({ "columns": ["email"], "method": "redact" });
    let short = Column {
        name: "email".to_owned(),
        type_oid: types::VARCHAR,
        typmod: 44,
        type_name: "character varying".to_owned(),
        nullable: true,
        key: false,
    };
    for (config, table, reason) in [
        (
            hash(),
            Table::new("t").column("mail", types::TEXT),
            "table public.t has no column email",
        ),
        (
            hash(),
            Table::new("t").column("email", types::INT8),
            "only text can be masked",
        ),
        (redact(), Table::new("t").key("email", types::TEXT), "part of the key"),
        (hash(), Table::new("t").with(short), "holds 40 characters"),
    ] {
        let refusal = refusal(config, table);
        assert!(refusal.contains(reason), "{refusal}");
    }
}

#[test]
fn a_bad_config_is_refused() {
    for (config, reason) in [
        (json!({ "columns": ["email"] }), "`salt` is empty"),
        (json!({ "columns": [], "salt": SALT }), "no column"),
        (json!({ "columns": ["email"], "salt": SALT, "colour": "red" }), "colour"),
        (json!({ "columns": { "email": "rot13" } }), "config"),
        (json!(null), "config"),
    ] {
        let error = testing::transform_with::<MaskPii>(config).expect_err("refused");
        assert!(error.reason().contains(reason), "{}", error.reason());
    }
}
