//! What a value of pipeline.yaml may look like: the words in which the table of keys is written.
//!
//! The checks and the JSON Schema both read this table, so neither can say something that the other doesn't.

use super::{ByteSize, Duration};

/// A block: keys with their values.
#[derive(Debug)]
pub(super) struct Block {
    pub keys: &'static [Key],
}

/// A key of a block.
#[derive(Debug)]
pub(super) struct Key {
    pub name: &'static str,
    /// One sentence or two, for the schema and for editors.
    pub doc: &'static str,
    pub shape: &'static Shape,
    pub presence: Presence,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Presence {
    Required,
    /// May be left out; what that means is decided elsewhere.
    Optional,
    /// What is read as if it were written there; empty for a block that has only its own defaults.
    Default(&'static str),
}

#[derive(Debug)]
pub(super) enum Shape {
    Text,
    /// A text that is never shown, such as a URL with a password.
    Secret,
    /// The name of something, with an example.
    Name(&'static str),
    /// `schema.table`, with `*` and `?`.
    Table,
    /// With an example.
    Path(&'static str),
    /// `host:port` on the loopback interface, or `off`.
    Address,
    Duration(Duration, Duration),
    Size(ByteSize, ByteSize),
    Count(u64, u64),
    Choice(&'static [&'static str]),
    /// At least one.
    List(&'static Shape),
    /// As many as one likes, none included.
    ListOrNone(&'static Shape),
    /// Names chosen by the user, with an example of one.
    Named(&'static str, &'static Shape),
    /// Tables by their names, `schema.table`.
    ByTable(&'static Shape),
    Block(&'static Block, Short),
    /// Whatever it is, handed on as it is.
    Any,
}

/// What a single word means where a block is expected.
#[derive(Clone, Copy, Debug)]
pub(super) enum Short {
    No,
    /// The value of this key: `snapshot: never` for `snapshot: { mode: never }`.
    Value(&'static str),
    /// One of these keys, empty: `stdout` for `stdout: {}`.
    Key(&'static [&'static str]),
}

impl Key {
    pub const fn required(name: &'static str, shape: &'static Shape, doc: &'static str) -> Self {
        Self::new(name, shape, Presence::Required, doc)
    }

    pub const fn optional(name: &'static str, shape: &'static Shape, doc: &'static str) -> Self {
        Self::new(name, shape, Presence::Optional, doc)
    }

    pub const fn default(name: &'static str, shape: &'static Shape, value: &'static str, doc: &'static str) -> Self {
        Self::new(name, shape, Presence::Default(value), doc)
    }

    const fn new(name: &'static str, shape: &'static Shape, presence: Presence, doc: &'static str) -> Self {
        Self {
            name,
            doc,
            shape,
            presence,
        }
    }
}

impl Block {
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl Shape {
    /// What was expected, in a few words.
    pub fn expected(&self) -> String {
        match self {
            Self::Text | Self::Secret | Self::Any => "a text".to_owned(),
            Self::Name(_) => "a name".to_owned(),
            Self::Table => "a table, `schema.table`".to_owned(),
            Self::Path(_) => "a path".to_owned(),
            Self::Address => "a loopback address or `off`".to_owned(),
            Self::Duration(min, max) => format!("a duration from {min} to {max}"),
            Self::Size(min, max) => format!("a size from {min} to {max}"),
            Self::Count(min, max) => format!("a whole number from {min} to {max}"),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::List(_) | Self::ListOrNone(_) => "a list".to_owned(),
            Self::Named(..) => "a block of names".to_owned(),
            Self::ByTable(_) => "a block of tables".to_owned(),
            Self::Block(_, Short::Key(words)) => format!("a block of keys, or {}", words.join(", ")),
            Self::Block(..) => "a block of keys".to_owned(),
        }
    }

    /// A value that would be taken.
    pub fn example(&self) -> String {
        match self {
            Self::Text | Self::Any => "text".to_owned(),
            Self::Secret => "\"${DATABASE_URL}\"".to_owned(),
            Self::Name(example) | Self::Path(example) => (*example).to_owned(),
            Self::Table => "public.orders".to_owned(),
            Self::Address => "127.0.0.1:7070".to_owned(),
            Self::Duration(min, max) => Duration::from_secs(1).clamp(*min, *max).to_string(),
            Self::Size(min, max) => ByteSize::mib(32).clamp(*min, *max).to_string(),
            Self::Count(min, max) => 2.clamp(*min, *max).to_string(),
            Self::Choice(words) => words.first().copied().unwrap_or_default().to_owned(),
            Self::List(of) | Self::ListOrNone(of) => format!("[{}]", of.example()),
            Self::Named(name, of) => format!("{{ {name}: {} }}", of.example()),
            Self::ByTable(of) => format!("{{ public.orders: {} }}", of.example()),
            Self::Block(_, Short::Key([word, ..])) => (*word).to_owned(),
            Self::Block(block, _) => block.example(),
        }
    }
}

impl Block {
    /// The keys that can't be left out, else the first.
    fn example(&self) -> String {
        let required = |key: &&Key| matches!(key.presence, Presence::Required);
        let mut keys: Vec<&Key> = self.keys.iter().filter(required).collect();
        if keys.is_empty() {
            keys.extend(self.keys.first());
        }
        let keys: Vec<String> = keys
            .iter()
            .map(|key| format!("{}: {}", key.name, key.shape.example()))
            .collect();
        if keys.is_empty() {
            return "{}".to_owned();
        }
        format!("{{ {} }}", keys.join(", "))
    }
}
