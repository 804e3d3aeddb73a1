//! Entries that the host keeps for a plugin by key.

use crate::host::imports;
use crate::{Error, Result};
use rowmill_abi::kv;

/// Entries by key that the host keeps for the plugin and stores with the position: for what is too large to be handed
/// over as a whole, as a [`Stateful`](crate::Stateful) state is.
///
/// A plugin gets it by asking: `#[plugin(kv)]` makes a [`WithKv`] of the type, `#[filter(read(..), kv)]` and
/// `#[transform(read(..), write(..), kv)]` hand it to the function. The manifest names the feature then; the plugin's
/// entry in pipeline.yaml must name it as well: `features: [kv]`.
///
/// Entries belong to the plugin's name in its pipeline, and outlive its versions. A key has 1 to
/// [`KEY_LEN_MAX`](Self::KEY_LEN_MAX) bytes, a value up to [`VALUE_LEN_MAX`](Self::VALUE_LEN_MAX); the sum of both over
/// all entries is bounded (`limits: kv` in pipeline.yaml, 64 MiB). A read sees the writes before it. Writes are for
/// functions that are called for rows, truncates and messages; a fault discards those of its batch, and the same rows
/// come again. What was written for a change that is *rejected* and set aside doesn't stay either: it comes again when its
/// letter is sent. Under `on_error: drop` or `pass` it stays.
///
/// ```
/// use rowmill_plugin::prelude::*;
///
/// /// Passes the first row of each customer, of a table whose rows are only inserted.
/// #[filter(read(customer), kv)]
/// fn first_of_customer(row: &Row, kv: Kv) -> Result<bool> {
///     let Some(customer) = row.text("customer")? else {
///         return Ok(true);
///     };
///     let is_first = !kv.contains(customer);
///     if is_first {
///         kv.put(customer, [])?;
///     }
///     Ok(is_first)
/// }
///
/// # use rowmill_plugin::{row, testing};
/// let mut plugin = testing::filter::<first_of_customer>();
/// assert_eq!(plugin.matches(row! { id: 1, customer: "ada" }), Ok(true));
/// assert_eq!(plugin.matches(row! { id: 2, customer: "ada" }), Ok(false));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Kv(());

/// A plugin that may use [`Kv`]: what `#[plugin(kv)]` makes of a type.
///
/// ```
/// use rowmill_plugin::prelude::*;
///
/// struct Counted;
///
/// #[plugin(kv)]
/// impl Filter for Counted {
///     fn new(_: ()) -> Result<Self> {
///         Ok(Self)
///     }
///
///     fn schema(&mut self, relation: &Relation) -> Result<Projection<()>> {
///         Ok(Selection::of(relation).with(()))
///     }
///
///     fn matches(&mut self, _: &Row, _: &()) -> Result<bool> {
///         let seen = match self.kv().get("seen").as_deref() {
///             Some([seen]) => *seen,
///             _ => 0,
///         };
///         self.kv().put("seen", [seen.saturating_add(1)])?;
///         Ok(seen < 2)
///     }
/// }
///
/// # use rowmill_plugin::{row, testing};
/// let mut plugin = testing::filter::<Counted>();
/// let verdicts = plugin.verdicts(&[row! { id: 1 }, row! { id: 2 }, row! { id: 3 }]);
/// assert_eq!(verdicts, [Ok(true), Ok(true), Ok(false)]);
/// ```
pub trait WithKv {
    /// The entries.
    ///
    /// ```
    /// use rowmill_plugin::{Result, WithKv};
    ///
    /// /// Works with every plugin that has entries.
    /// fn remember(plugin: &impl WithKv, customer: &str) -> Result<()> {
    ///     plugin.kv().put(customer, [])
    /// }
    /// ```
    fn kv(&self) -> Kv {
        Kv(())
    }
}

impl Kv {
    /// The longest key, in bytes.
    pub const KEY_LEN_MAX: usize = kv::KEY_LEN_MAX;
    /// The longest value, in bytes.
    pub const VALUE_LEN_MAX: usize = kv::VALUE_LEN_MAX;

    /// For the macros, which see to it that the manifest asks for the feature.
    #[doc(hidden)]
    pub const fn declared() -> Self {
        Self(())
    }

    /// The value of a key, where it has one.
    ///
    /// ```
    /// # use rowmill_plugin::Kv;
    /// fn seen(kv: Kv, customer: &str) -> Option<u64> {
    ///     let bytes = kv.get(customer)?;
    ///     Some(u64::from_le_bytes(bytes.try_into().ok()?))
    /// }
    /// ```
    pub fn get(self, key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        self.read(key, &mut value).then_some(value)
    }

    /// Reads the value of a key into `value`, whose memory is used again; `false`, and an empty `value`, where the key
    /// has none. For functions that are called for every row.
    ///
    /// ```
    /// # use rowmill_plugin::Kv;
    /// fn total_len(kv: Kv, keys: &[&str]) -> usize {
    ///     let mut value = Vec::new();
    ///     keys.iter().filter(|key| kv.read(key, &mut value)).count()
    /// }
    /// ```
    pub fn read(self, key: impl AsRef<[u8]>, value: &mut Vec<u8>) -> bool {
        /// Enough for a few numbers, so that most values are read by one call; else as long as the last one was.
        const FIRST: usize = 64;
        let key = key.as_ref();
        value.resize(value.len().clamp(FIRST, Self::VALUE_LEN_MAX), 0);
        let mut len = imports::kv_get(key, value);
        if let Ok(needed) = usize::try_from(len)
            && needed > value.len()
        {
            value.resize(needed, 0);
            len = imports::kv_get(key, value);
        }
        value.truncate(usize::try_from(len).unwrap_or(0));
        len >= 0
    }

    /// Whether a key has a value.
    ///
    /// ```
    /// # use rowmill_plugin::Kv;
    /// fn is_known(kv: Kv, customer: &str) -> bool {
    ///     kv.contains(customer)
    /// }
    /// ```
    pub fn contains(self, key: impl AsRef<[u8]>) -> bool {
        imports::kv_get(key.as_ref(), &mut []) != kv::NONE
    }

    /// Gives a key this value. An error with the code `kv` where the host has no room for it, where key or value are
    /// longer than allowed, and outside of the functions that are called for rows; then nothing has changed.
    ///
    /// ```
    /// # use rowmill_plugin::{Kv, Result};
    /// fn remember(kv: Kv, customer: &str, total: u64) -> Result<()> {
    ///     kv.put(customer, total.to_le_bytes())
    /// }
    /// ```
    pub fn put(self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let (key, value) = (key.as_ref(), value.as_ref());
        if imports::kv_put(key, value) == kv::DONE {
            return Ok(());
        }
        let fits = (1..=Self::KEY_LEN_MAX).contains(&key.len()) && value.len() <= Self::VALUE_LEN_MAX;
        Err(refused(if fits {
            "there is no room for an entry by key: see `limits: kv`"
        } else {
            "an entry by key is longer than allowed, or its key is empty"
        }))
    }

    /// Takes a key's value away, where it has one. An error with the code `kv` outside of the functions that are called
    /// for rows.
    ///
    /// ```
    /// # use rowmill_plugin::{Kv, Result};
    /// fn forget(kv: Kv, customer: &str) -> Result<()> {
    ///     kv.delete(customer)
    /// }
    /// ```
    pub fn delete(self, key: impl AsRef<[u8]>) -> Result<()> {
        match imports::kv_delete(key.as_ref()) {
            kv::DONE => Ok(()),
            _ => Err(refused("entries by key can't be deleted here")),
        }
    }
}

#[cold]
fn refused(reason: &'static str) -> Error {
    Error::new(reason).with_code("kv")
}
