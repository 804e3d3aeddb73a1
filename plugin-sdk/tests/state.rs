//! State goes from one instance into the next.

use rowmill_plugin::abi::{Reader, Writer};
use rowmill_plugin::guest::{FilterPlugin, Guest};
use rowmill_plugin::prelude::*;

struct Limited(u64);

#[plugin(state_version = 2, state_scope = "whole")]
impl Filter for Limited {
    fn new(_: ()) -> Result<Self> {
        Ok(Self(0))
    }

    fn schema(&mut self, relation: &Relation) -> Result<Projection<()>> {
        Ok(Selection::of(relation).with(()))
    }

    fn matches(&mut self, _: &Row, _: &()) -> Result<bool> {
        self.0 += 1;
        Ok(self.0 <= 3)
    }
}

impl Stateful for Limited {
    fn checkpoint(&self, state: &mut Writer) {
        state.uint(self.0);
    }

    fn restore(&mut self, state: &[u8]) -> Result<()> {
        self.0 = Reader::new(state).uint()?;
        Ok(())
    }

    fn migrate(&mut self, _: u32, state: &[u8]) -> Result<()> {
        self.0 = Reader::new(state).uint()? * 10;
        Ok(())
    }
}

fn init(state: Option<&[u8]>) -> Vec<u8> {
    let mut input = Writer::new();
    input.array(8);
    input.uint(0x1_0000);
    input.array(0);
    input.str("limited");
    input.nil();
    input.uint(0);
    input.array(0);
    match state {
        Some(state) => input.bin(state),
        None => input.nil(),
    }
    input.uint(2);
    input.into_vec()
}

#[test]
fn state_is_restored_migrated_and_given() {
    let mut guest = Guest::<FilterPlugin<Limited>>::default();
    assert_eq!(guest.init(&init(Some(&[7]))), [0x91, 0]);
    assert_eq!(guest.checkpoint(), [0x92, 0, 0xc4, 1, 7]);
    let mut guest = Guest::<FilterPlugin<Limited>>::default();
    assert_eq!(guest.init(&init(None)), [0x91, 0]);
    assert_eq!(guest.migrate(1, &[7]), [0x91, 0]);
    assert_eq!(guest.checkpoint(), [0x92, 0, 0xc4, 1, 70]);
    // Bytes that can't be read refuse the plugin.
    assert_eq!(guest.init(&init(Some(&[0xc1])))[..2], [0x92, 2]);
}
