//! Columns that are written, where rows leave in another shape.

use rowmill_plugin::prelude::*;
use rowmill_plugin::testing::{self, Table};
use rowmill_plugin::{row, types};

mod reordered {
    use super::*;

    pub struct Masked;

    #[plugin]
    impl Transform for Masked {
        type Table = WriteColumn;

        fn new(_: ()) -> Result<Self> {
            Ok(Self)
        }

        /// The output behind what is written, with the columns in another order.
        fn schema(&mut self, relation: &Relation) -> Result<Projection<WriteColumn>> {
            let mut selection = Selection::of(relation);
            let email = selection.write("email")?;
            let mut output = Output::like(relation);
            output.columns.reverse();
            selection.output(output);
            Ok(selection.with(email))
        }

        fn transform(&mut self, _: &Row, email: &WriteColumn, patch: &mut Patch) -> Result<()> {
            patch.set(*email, "***");
            Ok(())
        }
    }
}

#[test]
fn a_column_is_written_where_it_leaves() {
    let mut plugin = testing::transform::<reordered::Masked>();
    let masked = plugin.apply(row! { id: 1, email: "ada@example.org" }).row();
    assert_eq!(masked, row! { email: "***", id: 1 });
}

mod lacking {
    use super::*;

    pub struct Lacking;

    #[plugin]
    impl Transform for Lacking {
        fn new(_: ()) -> Result<Self> {
            Ok(Self)
        }

        fn schema(&mut self, relation: &Relation) -> Result<Projection<()>> {
            let mut selection = Selection::of(relation);
            selection.write("email")?;
            let mut output = Output::like(relation);
            output.columns.retain(|column| column.name != "email");
            selection.output(output);
            Ok(selection.with(()))
        }

        fn transform(&mut self, _: &Row, _: &(), _: &mut Patch) -> Result<()> {
            Ok(())
        }
    }
}

#[test]
#[should_panic = "an output has no column email, which is to be written"]
fn a_column_that_is_written_has_to_leave() {
    let table = Table::new("t").key("id", types::INT8).column("email", types::TEXT);
    let _ = testing::transform::<lacking::Lacking>().with_table(table);
}
