//! Elements of arrays, bounds of ranges.

use rowmill_plugin::postgres::{Array, FromText, Range};
use rowmill_plugin::prelude::*;
use rowmill_plugin::testing::{self, Table};
use rowmill_plugin::{Column, row, types};

mod elements {
    use super::*;

    /// Rows with as many elements as they say.
    #[filter(read(elements, count))]
    pub fn as_many(row: &Row) -> Result<bool> {
        let elements = row.array("elements")?.map(|array| array.elements().count() as i64);
        let same: Option<Array<'_>> = row.get("elements")?;
        assert_eq!(same.map(|array| array.len() as i64), elements);
        Ok(elements == row.int("count")?)
    }
}

#[test]
fn arrays_are_divided_as_their_type_has_it() {
    let boxes = "{(1,1),(0,0);(3,3),(2,2)}";
    let points = "{0101000000000000000000F03F:0101000000000000000000F03F}";
    let column = |type_oid, type_name: &str| Column {
        name: "elements".to_owned(),
        type_oid,
        typmod: -1,
        type_name: type_name.to_owned(),
        nullable: true,
        key: false,
    };
    for (column, elements, count) in [
        (column(1020, "box[]"), boxes, 2),
        (column(1020, "box[]"), "{}", 0),
        (column(70_000, "geometry[]"), points, 2),
        (column(70_000, "postgis.geography[]"), points, 2),
        (column(1009, "text[]"), "{a;b:c,d}", 2),
        (column(25, "text"), "{a,b}", 2),
    ] {
        let name = column.type_name.clone();
        let table = Table::new("t").with(column).column("count", types::INT8);
        let mut plugin = testing::filter::<elements::as_many>().with_table(table).unwrap();
        let verdict = plugin.matches(row! { elements: elements, count: count });
        assert_eq!(verdict, Ok(true), "{name}");
    }
    for delimiter in [b'{', b'}', b'"', b'\\', 0xc3] {
        assert!(Array::delimited("{a}", delimiter).is_none());
    }
    let nested = Array::delimited("[0:0][2:3]={{(1,1),(0,0);NULL}}", b';').unwrap();
    let texts: Vec<_> = nested.elements().map(|element| element.text()).collect();
    assert_eq!(texts, [Some("(1,1),(0,0)".into()), None]);
}

#[test]
fn what_postgres_would_quote_is_not_read_without() {
    for text in ["[1,2,3)", "[a\\,b,c]", "[(1,2)", "[1),2)", r#"[a"b,c]"#] {
        assert_eq!(Range::from_text(text), None, "{text}");
    }
    for text in ["[0]1]={1,2}", "[0:1:={1,2}", "[0:1]=[1]", "[1:0]={}"] {
        assert!(Array::from_text(text).is_none(), "{text}");
    }
}
