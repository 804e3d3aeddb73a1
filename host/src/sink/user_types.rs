//! Types that a source defines itself, for sinks that make tables.

use rustc_hash::FxHashMap;

/// By the source's OIDs. Empty where no sink makes tables.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct UserTypes(pub FxHashMap<u32, UserType>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserType {
    pub schema: String,
    pub name: String,
    pub kind: UserTypeKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserTypeKind {
    /// Its labels in order.
    Enum(Vec<String>),
    Domain {
        base_oid: u32,
        base_typmod: i32,
        not_null: bool,
        /// `CHECK (...)`, as the server writes them.
        checks: Vec<String>,
    },
    /// An array of the type with this OID.
    Array(u32),
    /// Made by an extension of this name, or by hand: no sink makes it.
    Other { extension: Option<String> },
}
