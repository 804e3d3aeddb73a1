//! What a plugin remembers and tells.

use super::mock_host::MockHost;
use super::replies::opened;
use crate::Result;
use crate::guest::Plugin;
use crate::host::Level;
use rowmill_abi::{Token, metric};
use std::collections::BTreeMap;

impl<P: Plugin> MockHost<P> {
    /// The state that the plugin gives, as it would be stored.
    ///
    /// ```
    /// use rowmill_plugin::prelude::*;
    /// use rowmill_plugin::{row, testing};
    ///
    /// struct FirstThree(u64);
    ///
    /// #[plugin(state_version = 1, state_scope = "whole")]
    /// impl Filter for FirstThree {
    ///     fn new(_: ()) -> Result<Self> {
    ///         Ok(Self(0))
    ///     }
    ///
    ///     fn schema(&mut self, relation: &Relation) -> Result<Projection<()>> {
    ///         Ok(Selection::of(relation).with(()))
    ///     }
    ///
    ///     fn matches(&mut self, _: &Row, _: &()) -> Result<bool> {
    ///         self.0 += 1;
    ///         Ok(self.0 <= 3)
    ///     }
    /// }
    ///
    /// impl Stateful for FirstThree {
    ///     fn checkpoint(&self, state: &mut Writer) {
    ///         state.uint(self.0);
    ///     }
    ///
    ///     fn restore(&mut self, state: &[u8]) -> Result<()> {
    ///         self.0 = Reader::new(state).uint()?;
    ///         Ok(())
    ///     }
    ///
    ///     fn migrate(&mut self, _old_version: u32, state: &[u8]) -> Result<()> {
    ///         self.0 = state.len() as u64;
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut plugin = testing::filter::<FirstThree>();
    /// assert_eq!(plugin.verdicts(&[row! { id: 1 }, row! { id: 2 }]), [Ok(true), Ok(true)]);
    /// let state = plugin.checkpoint();
    /// assert_eq!(state, [2]);
    ///
    /// // The process ends, and another goes on.
    /// plugin.restart();
    /// assert_eq!(plugin.verdicts(&[row! { id: 3 }, row! { id: 4 }]), [Ok(true), Ok(false)]);
    ///
    /// // Bytes that it can't read refuse the plugin; those of an older version are migrated.
    /// assert!(plugin.restore(b"\xc1").is_err());
    /// plugin.migrate(0, b"xxx").unwrap();
    /// assert_eq!(plugin.matches(row! { id: 5 }), Ok(false));
    ///
    /// // Wherever batches are cut, and wherever it is restarted, the result is the same.
    /// plugin.restore(&state).unwrap();
    /// let verdicts = plugin.cut_everywhere(&[row! { id: 6 }, row! { id: 7 }, row! { id: 8 }]);
    /// assert_eq!(verdicts, [Ok(true), Ok(false), Ok(false)]);
    /// ```
    ///
    /// # Panics
    ///
    /// Where the plugin has no state.
    pub fn checkpoint(&mut self) -> Vec<u8> {
        assert!(
            self.guest.is_stateful(),
            "the plugin has no state: `#[plugin(state_version = .., state_scope = ..)]`"
        );
        let (world, guest) = (&mut self.world, &mut self.guest);
        let state = world.enter(false, || {
            let mut reply = opened(guest.checkpoint())?;
            match reply.token()? {
                Token::Bin(state) => Ok(state.to_owned()),
                _ => Err(crate::Error::new("the state is no bytes")),
            }
        });
        state.unwrap_or_else(|error| panic!("the plugin gives no state: {error}"))
    }

    /// Ends the instance behind a checkpoint and goes on with a new one, as a new process does: what is in neither state
    /// nor entries is gone.
    ///
    /// ```
    /// use rowmill_plugin::prelude::*;
    /// use rowmill_plugin::{row, testing};
    ///
    /// /// Counts in a field that is in no checkpoint: gone after a restart.
    /// struct Forgetful(u64);
    ///
    /// #[plugin]
    /// impl Filter for Forgetful {
    /// #     fn new(_: ()) -> Result<Self> {
    /// #         Ok(Self(0))
    /// #     }
    /// #     fn schema(&mut self, relation: &Relation) -> Result<Projection<()>> {
    /// #         Ok(Selection::of(relation).with(()))
    /// #     }
    ///     fn matches(&mut self, _: &Row, _: &()) -> Result<bool> {
    ///         self.0 += 1;
    ///         Ok(self.0 <= 1)
    ///     }
    /// }
    ///
    /// let mut plugin = testing::filter::<Forgetful>();
    /// assert_eq!(plugin.verdicts(&[row! { id: 1 }, row! { id: 2 }]), [Ok(true), Ok(false)]);
    /// plugin.restart();
    /// assert_eq!(plugin.matches(row! { id: 3 }), Ok(true));
    /// ```
    ///
    /// # Panics
    ///
    /// Where the plugin refuses its own state, or a table that it took before.
    pub fn restart(&mut self) {
        let state = self.guest.is_stateful().then(|| self.checkpoint());
        let restarted = self.started(state.as_deref()).and_then(|guest| self.replaced(guest));
        *self = restarted.unwrap_or_else(|error| panic!("the plugin refuses to go on: {error}"));
    }

    /// Goes on with a new instance that is given this state. An error is its refusal; the old one goes on then.
    ///
    /// ```
    /// # use rowmill_plugin::prelude::*;
    /// # use rowmill_plugin::{row, testing};
    /// # struct FirstTwo(u64);
    /// #
    /// # #[plugin(state_version = 2, state_scope = "whole")]
    /// # impl Filter for FirstTwo {
    /// #     fn new(_: ()) -> Result<Self> {
    /// #         Ok(Self(0))
    /// #     }
    /// #
    /// #     fn schema(&mut self, relation: &Relation) -> Result<Projection<()>> {
    /// #         Ok(Selection::of(relation).with(()))
    /// #     }
    /// #
    /// #     fn matches(&mut self, _: &Row, _: &()) -> Result<bool> {
    /// #         self.0 += 1;
    /// #         Ok(self.0 <= 2)
    /// #     }
    /// # }
    /// #
    /// # impl Stateful for FirstTwo {
    /// #     fn checkpoint(&self, state: &mut Writer) {
    /// #         state.uint(self.0);
    /// #     }
    /// #
    /// #     fn restore(&mut self, state: &[u8]) -> Result<()> {
    /// #         self.0 = Reader::new(state).uint()?;
    /// #         Ok(())
    /// #     }
    /// #
    /// #     fn migrate(&mut self, _: u32, state: &[u8]) -> Result<()> {
    /// #         self.0 = std::str::from_utf8(state).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    /// #         Ok(())
    /// #     }
    /// # }
    /// let mut plugin = testing::filter::<FirstTwo>();
    /// plugin.restore(&[1]).unwrap();
    /// assert_eq!(plugin.verdicts(&[row! { id: 1 }, row! { id: 2 }]), [Ok(true), Ok(false)]);
    /// // Bytes that are no number.
    /// assert!(plugin.restore(b"\xc1").is_err());
    /// ```
    ///
    /// # Panics
    ///
    /// Where the plugin refuses a table that it took before.
    pub fn restore(&mut self, state: &[u8]) -> Result<()> {
        let guest = self.started(Some(state))?;
        *self = self.replaced(guest)?;
        Ok(())
    }

    /// Goes on with a new instance that is given state of an older version. An error is its refusal; the old one goes
    /// on then.
    ///
    /// ```
    /// # use rowmill_plugin::prelude::*;
    /// # use rowmill_plugin::{row, testing};
    /// # struct FirstTwo(u64);
    /// #
    /// # #[plugin(state_version = 2, state_scope = "whole")]
    /// # impl Filter for FirstTwo {
    /// #     fn new(_: ()) -> Result<Self> {
    /// #         Ok(Self(0))
    /// #     }
    /// #
    /// #     fn schema(&mut self, relation: &Relation) -> Result<Projection<()>> {
    /// #         Ok(Selection::of(relation).with(()))
    /// #     }
    /// #
    /// #     fn matches(&mut self, _: &Row, _: &()) -> Result<bool> {
    /// #         self.0 += 1;
    /// #         Ok(self.0 <= 2)
    /// #     }
    /// # }
    /// #
    /// # impl Stateful for FirstTwo {
    /// #     fn checkpoint(&self, state: &mut Writer) {
    /// #         state.uint(self.0);
    /// #     }
    /// #
    /// #     fn restore(&mut self, state: &[u8]) -> Result<()> {
    /// #         self.0 = Reader::new(state).uint()?;
    /// #         Ok(())
    /// #     }
    /// #
    /// #     fn migrate(&mut self, _: u32, state: &[u8]) -> Result<()> {
    /// #         self.0 = std::str::from_utf8(state).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    /// #         Ok(())
    /// #     }
    /// # }
    /// let mut plugin = testing::filter::<FirstTwo>();
    /// // Version 1 kept the number as a text.
    /// plugin.migrate(1, b"1").unwrap();
    /// assert_eq!(plugin.verdicts(&[row! { id: 1 }, row! { id: 2 }]), [Ok(true), Ok(false)]);
    /// assert_eq!(plugin.checkpoint(), [3]);
    /// ```
    pub fn migrate(&mut self, old_version: u32, state: &[u8]) -> Result<()> {
        let mut guest = self.started(None)?;
        self.world
            .enter(false, || opened(guest.migrate(old_version, state)).map(|_| ()))?;
        *self = self.replaced(guest)?;
        Ok(())
    }

    /// The entries by key.
    ///
    /// ```
    /// use rowmill_plugin::prelude::*;
    /// use rowmill_plugin::{row, testing};
    ///
    /// #[filter(read(customer), kv)]
    /// fn first_of_customer(row: &Row, kv: Kv) -> Result<bool> {
    ///     let customer = row.text("customer")?.unwrap_or("nobody");
    ///     let is_first = !kv.contains(customer);
    ///     kv.put(customer, [])?;
    ///     Ok(is_first)
    /// }
    ///
    /// let mut plugin = testing::filter::<first_of_customer>();
    /// plugin.set_entry("ada", "");
    /// assert_eq!(plugin.matches(row! { customer: "ada" }), Ok(false));
    /// assert_eq!(plugin.matches(row! { customer: "grace" }), Ok(true));
    /// assert_eq!(plugin.entries().len(), 2);
    ///
    /// // No room for another.
    /// plugin.limit_entries(128);
    /// assert_eq!(plugin.matches(row! { customer: "edsger" }).unwrap_err().code(), "kv");
    /// ```
    pub fn entries(&self) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        &self.world.entries.map
    }

    /// Puts an entry there before the plugin comes by, see [`entries`](Self::entries).
    ///
    /// ```
    /// # use rowmill_plugin::prelude::*;
    /// # use rowmill_plugin::{row, testing};
    /// #[filter(read(customer), kv)]
    /// fn first_of_customer(row: &Row, kv: Kv) -> Result<bool> {
    ///     let customer = row.text("customer")?.unwrap_or("nobody");
    ///     let is_first = !kv.contains(customer);
    ///     kv.put(customer, [])?;
    ///     Ok(is_first)
    /// }
    ///
    /// let mut plugin = testing::filter::<first_of_customer>();
    /// plugin.set_entry("ada", "");
    /// assert_eq!(plugin.matches(row! { customer: "ada" }), Ok(false));
    /// ```
    ///
    /// # Panics
    ///
    /// Where the host would not have it.
    pub fn set_entry(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let entries = &mut self.world.entries;
        entries.writable = true;
        let put = entries.put(key.as_ref(), value.as_ref());
        assert_eq!(put, rowmill_abi::kv::DONE, "the host would refuse this entry");
    }

    /// Bounds keys and values together, in bytes, as `limits: kv` in pipeline.yaml does, see
    /// [`entries`](Self::entries). What is there stays.
    ///
    /// ```
    /// # use rowmill_plugin::prelude::*;
    /// # use rowmill_plugin::{row, testing};
    /// #[filter(read(customer), kv)]
    /// fn first_of_customer(row: &Row, kv: Kv) -> Result<bool> {
    ///     let customer = row.text("customer")?.unwrap_or("nobody");
    ///     let is_first = !kv.contains(customer);
    ///     kv.put(customer, [])?;
    ///     Ok(is_first)
    /// }
    ///
    /// let mut plugin = testing::filter::<first_of_customer>();
    /// plugin.limit_entries(64);
    /// assert_eq!(plugin.matches(row! { customer: "ada" }), Ok(true));
    /// assert_eq!(plugin.matches(row! { customer: "grace" }).unwrap_err().code(), "kv");
    /// ```
    pub fn limit_entries(&mut self, bytes: u64) {
        self.world.entries.quota = bytes;
    }

    /// Takes the lines that were logged so far.
    ///
    /// ```
    /// # use rowmill_plugin::prelude::*;
    /// # use rowmill_plugin::{row, testing};
    /// #[filter(read(id))]
    /// fn talkative(row: &Row) -> Result<bool> {
    ///     host::log(Level::Info, "a row");
    ///     host::count("rows", 1.0);
    ///     host::gauge("columns", 1.0);
    ///     host::observe("size", 8.0);
    ///     Ok(true)
    /// }
    ///
    /// let mut plugin = testing::filter::<talkative>();
    /// assert_eq!(plugin.matches(row! { id: 1 }), Ok(true));
    /// assert_eq!(plugin.logged(), [(Level::Info, "a row".to_owned())]);
    /// assert_eq!(plugin.counter("rows"), 1.0);
    /// assert_eq!(plugin.gauge("columns"), Some(1.0));
    /// assert_eq!(plugin.observed("size"), [8.0]);
    /// ```
    pub fn logged(&mut self) -> Vec<(Level, String)> {
        std::mem::take(&mut self.world.lines)
    }

    /// What a counter has come to, see [`logged`](Self::logged); 0 where nothing was counted.
    ///
    /// ```
    /// # use rowmill_plugin::prelude::*;
    /// # use rowmill_plugin::{row, testing};
    /// #[filter(read(id))]
    /// fn measured(row: &Row) -> Result<bool> {
    ///     host::count("rows", 1.0);
    ///     Ok(true)
    /// }
    ///
    /// let mut plugin = testing::filter::<measured>();
    /// plugin.verdicts(&[row! { id: 1 }, row! { id: 2 }]);
    /// assert_eq!(plugin.counter("rows"), 2.0);
    /// assert_eq!(plugin.counter("other"), 0.0);
    /// ```
    pub fn counter(&self, name: &str) -> f64 {
        self.world.metric(metric::COUNTER, name).first().copied().unwrap_or(0.0)
    }

    /// What a gauge was set to last, see [`logged`](Self::logged).
    ///
    /// ```
    /// # use rowmill_plugin::prelude::*;
    /// # use rowmill_plugin::{row, testing};
    /// #[filter(read(id))]
    /// fn measured(row: &Row) -> Result<bool> {
    ///     host::gauge("last_id", row.int("id")?.unwrap_or(0) as f64);
    ///     Ok(true)
    /// }
    ///
    /// let mut plugin = testing::filter::<measured>();
    /// plugin.verdicts(&[row! { id: 1 }, row! { id: 2 }]);
    /// assert_eq!(plugin.gauge("last_id"), Some(2.0));
    /// assert_eq!(plugin.gauge("other"), None);
    /// ```
    pub fn gauge(&self, name: &str) -> Option<f64> {
        self.world.metric(metric::GAUGE, name).first().copied()
    }

    /// What a histogram was given, see [`logged`](Self::logged).
    ///
    /// ```
    /// # use rowmill_plugin::prelude::*;
    /// # use rowmill_plugin::{row, testing};
    /// #[filter(read(id))]
    /// fn measured(row: &Row) -> Result<bool> {
    ///     host::observe("ids", row.int("id")?.unwrap_or(0) as f64);
    ///     Ok(true)
    /// }
    ///
    /// let mut plugin = testing::filter::<measured>();
    /// plugin.verdicts(&[row! { id: 1 }, row! { id: 2 }]);
    /// assert_eq!(plugin.observed("ids"), [1.0, 2.0]);
    /// ```
    pub fn observed(&self, name: &str) -> &[f64] {
        self.world.metric(metric::HISTOGRAM, name)
    }
}
