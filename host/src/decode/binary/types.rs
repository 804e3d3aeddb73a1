//! The forms of the source's types, by the functions that its catalog names for them.

use super::Form;
use rustc_hash::FxHashMap;

/// A type as the source's catalog has it.
#[derive(Clone, Debug, Default)]
pub struct TypeEntry {
    pub oid: u32,
    /// As `format_type` writes it.
    pub name: String,
    /// `prosrc` of its output function: what that does, whatever the type calls it.
    pub output: String,
    /// The same of its send function; empty where it has none, so that its values are sent as text.
    pub send: String,
    /// What separates it in an array.
    pub delimiter: u8,
    /// Of a domain: the type under it. Else 0.
    pub base: u32,
    /// Of an array: its elements' type. Else 0.
    pub element: u32,
    /// Of a range or multirange: what it ranges over. Else 0.
    pub subtype: u32,
    /// Of a composite: its fields' types.
    pub fields: Vec<u32>,
}

/// All types of a database, and the version of its server, on which some texts depend.
#[derive(Clone, Debug, Default)]
pub struct Types {
    /// As `server_version_num`.
    server_version: u32,
    entries: FxHashMap<u32, (Form, TypeEntry)>,
}

/// Domains over domains, composites within composites: the server's own nest less deep.
const NESTING_MAX: usize = 64;

impl Types {
    pub fn new(server_version: u32, entries: impl IntoIterator<Item = TypeEntry>) -> Self {
        let entries: FxHashMap<u32, TypeEntry> = entries.into_iter().map(|entry| (entry.oid, entry)).collect();
        let form_of = |entry: &TypeEntry| {
            let mut entry = entry;
            for _ in 0..NESTING_MAX {
                match entries.get(&entry.base).filter(|_| entry.base != 0) {
                    Some(base) => entry = base,
                    None => break,
                }
            }
            form(entry)
        };
        let forms: Vec<(u32, Form)> = entries.values().map(|entry| (entry.oid, form_of(entry))).collect();
        let mut entries = entries;
        let with_entry = |(oid, form)| Some((oid, (form, entries.remove(&oid)?)));
        Self {
            server_version,
            entries: forms.into_iter().filter_map(with_entry).collect(),
        }
    }

    pub(super) fn is_from(&self, version: u32) -> bool {
        self.server_version >= version
    }

    #[inline]
    pub(in crate::decode) fn form(&self, oid: u32) -> Form {
        self.entries.get(&oid).map_or(Form::Unknown, |(form, _)| *form)
    }

    pub(super) fn delimiter(&self, oid: u32) -> u8 {
        self.entries.get(&oid).map_or(b',', |(_, entry)| entry.delimiter)
    }

    /// The type's name; its OID where it isn't known.
    pub fn name(&self, oid: u32) -> String {
        let entry = self.entries.get(&oid);
        entry.map_or_else(|| format!("oid:{oid}"), |(_, entry)| entry.name.clone())
    }

    /// Whether the server has no binary form of it: it sends the text then, but refuses a binary COPY.
    pub fn is_sent_as_text(&self, oid: u32) -> bool {
        self.entries.get(&oid).is_some_and(|(_, entry)| entry.send.is_empty())
    }

    /// The type within a column's type, or that type itself, whose values can't be read in binary form.
    pub fn unreadable(&self, oid: u32) -> Option<u32> {
        (!self.is_sent_as_text(oid))
            .then(|| self.unreadable_within(oid, 0))
            .flatten()
    }

    fn unreadable_within(&self, oid: u32, depth: usize) -> Option<u32> {
        let Some((form, entry)) = self.entries.get(&oid).filter(|_| depth < NESTING_MAX) else {
            return Some(oid);
        };
        // Within another value, what has no send function fails at the server.
        if entry.send.is_empty() {
            return Some(oid);
        }
        let within = |oid: u32| self.unreadable_within(oid, depth + 1);
        match form {
            _ if entry.base != 0 => within(entry.base),
            Form::Unknown => Some(oid),
            Form::Array => within(entry.element),
            Form::Range(subtype) | Form::Multirange(subtype) => within(*subtype),
            Form::Record => entry.fields.iter().find_map(|field| within(*field)),
            _ => None,
        }
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl Types {
    /// A type of each form, numbered from 1 on, on a server of the version; arrays are of the first. For bytes that come
    /// from no server.
    pub(crate) fn of_every_form(server_version: u32) -> Self {
        let entries = FORMS.iter().zip(1..).map(|((output, send, _), oid)| TypeEntry {
            oid,
            name: (*output).to_owned(),
            output: (*output).to_owned(),
            send: (*send).to_owned(),
            delimiter: b',',
            element: 1,
            subtype: 1,
            ..TypeEntry::default()
        });
        Self::new(server_version, entries)
    }

    pub(crate) const FORMS: u32 = FORMS.len() as u32;
}

fn form(entry: &TypeEntry) -> Form {
    if entry.send.is_empty() {
        return Form::Text;
    }
    let functions = (entry.output.as_str(), entry.send.as_str());
    let known = FORMS.iter().find(|(output, send, _)| (*output, *send) == functions);
    match known.map(|(.., form)| *form) {
        Some(Form::Range(_)) => Form::Range(entry.subtype),
        Some(Form::Multirange(_)) => Form::Multirange(entry.subtype),
        Some(form) => form,
        None => Form::Unknown,
    }
}

/// Output and send functions, and the form that they are the two sides of.
const FORMS: &[(&str, &str, Form)] = &[
    ("textout", "textsend", Form::Text),
    ("varcharout", "varcharsend", Form::Text),
    ("bpcharout", "bpcharsend", Form::Text),
    ("nameout", "namesend", Form::Text),
    ("enum_out", "enum_send", Form::Text),
    ("json_out", "json_send", Form::Text),
    ("xml_out", "xml_send", Form::Text),
    ("unknownout", "unknownsend", Form::Text),
    ("cstring_out", "cstring_send", Form::Text),
    ("jsonb_out", "jsonb_send", Form::VersionedText),
    ("jsonpath_out", "jsonpath_send", Form::VersionedText),
    ("ltree_out", "ltree_send", Form::VersionedText),
    ("lquery_out", "lquery_send", Form::VersionedText),
    ("ltxtq_out", "ltxtq_send", Form::VersionedText),
    ("boolout", "boolsend", Form::Bool),
    ("charout", "charsend", Form::Char),
    ("byteaout", "byteasend", Form::Bytea),
    ("int2out", "int2send", Form::Int2),
    ("int4out", "int4send", Form::Int4),
    ("int8out", "int8send", Form::Int8),
    ("oidout", "oidsend", Form::Unsigned4),
    ("xidout", "xidsend", Form::Unsigned4),
    ("cidout", "cidsend", Form::Unsigned4),
    ("xid8out", "xid8send", Form::Unsigned8),
    ("float4out", "float4send", Form::Float4),
    ("float8out", "float8send", Form::Float8),
    ("numeric_out", "numeric_send", Form::Numeric),
    ("cash_out", "cash_send", Form::Money),
    ("date_out", "date_send", Form::Date),
    ("time_out", "time_send", Form::Time),
    ("timetz_out", "timetz_send", Form::TimeTz),
    ("timestamp_out", "timestamp_send", Form::Timestamp),
    ("timestamptz_out", "timestamptz_send", Form::TimestampTz),
    ("interval_out", "interval_send", Form::Interval),
    ("uuid_out", "uuid_send", Form::Uuid),
    ("inet_out", "inet_send", Form::Inet),
    ("cidr_out", "cidr_send", Form::Inet),
    ("macaddr_out", "macaddr_send", Form::Mac),
    ("macaddr8_out", "macaddr8_send", Form::Mac),
    ("bit_out", "bit_send", Form::Bit),
    ("varbit_out", "varbit_send", Form::Bit),
    ("pg_lsn_out", "pg_lsn_send", Form::Lsn),
    ("tidout", "tidsend", Form::Tid),
    ("pg_snapshot_out", "pg_snapshot_send", Form::Snapshot),
    ("point_out", "point_send", Form::Point),
    ("line_out", "line_send", Form::Line),
    ("lseg_out", "lseg_send", Form::Segment),
    ("box_out", "box_send", Form::Box),
    ("path_out", "path_send", Form::Path),
    ("poly_out", "poly_send", Form::Polygon),
    ("circle_out", "circle_send", Form::Circle),
    ("cube_out", "cube_send", Form::Cube),
    ("tsvectorout", "tsvectorsend", Form::TsVector),
    ("tsqueryout", "tsquerysend", Form::TsQuery),
    ("hstore_out", "hstore_send", Form::Hstore),
    ("array_out", "array_send", Form::Array),
    ("int2vectorout", "int2vectorsend", Form::Vector),
    ("oidvectorout", "oidvectorsend", Form::Vector),
    ("record_out", "record_send", Form::Record),
    ("range_out", "range_send", Form::Range(0)),
    ("multirange_out", "multirange_send", Form::Multirange(0)),
];
