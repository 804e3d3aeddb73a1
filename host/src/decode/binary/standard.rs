//! The types of which a server reads every other server's binary form, whatever its version, its catalog and its settings.

use super::{TypeEntry, Types};
use std::sync::{Arc, LazyLock};

/// OID, OID of its array, name, output and send function.
///
/// Left out are those whose form holds OIDs that other servers give to other things (enums in arrays, composites), or
/// means something else in other settings or versions: `money`, `"char"`, `interval`, `xml`, `tsvector`.
const STANDARD: [(u32, u32, &str, &str, &str); 28] = [
    (16, 1000, "boolean", "boolout", "boolsend"),
    (17, 1001, "bytea", "byteaout", "byteasend"),
    (19, 1003, "name", "nameout", "namesend"),
    (20, 1016, "bigint", "int8out", "int8send"),
    (21, 1005, "smallint", "int2out", "int2send"),
    (23, 1007, "integer", "int4out", "int4send"),
    (25, 1009, "text", "textout", "textsend"),
    (26, 1028, "oid", "oidout", "oidsend"),
    (114, 199, "json", "json_out", "json_send"),
    (600, 1017, "point", "point_out", "point_send"),
    (650, 651, "cidr", "cidr_out", "cidr_send"),
    (700, 1021, "real", "float4out", "float4send"),
    (701, 1022, "double precision", "float8out", "float8send"),
    (774, 775, "macaddr8", "macaddr8_out", "macaddr8_send"),
    (829, 1040, "macaddr", "macaddr_out", "macaddr_send"),
    (869, 1041, "inet", "inet_out", "inet_send"),
    (1042, 1014, "character", "bpcharout", "bpcharsend"),
    (1043, 1015, "character varying", "varcharout", "varcharsend"),
    (1082, 1182, "date", "date_out", "date_send"),
    (1083, 1183, "time without time zone", "time_out", "time_send"),
    (
        1114,
        1115,
        "timestamp without time zone",
        "timestamp_out",
        "timestamp_send",
    ),
    (
        1184,
        1185,
        "timestamp with time zone",
        "timestamptz_out",
        "timestamptz_send",
    ),
    (1266, 1270, "time with time zone", "timetz_out", "timetz_send"),
    (1560, 1561, "bit", "bit_out", "bit_send"),
    (1562, 1563, "bit varying", "varbit_out", "varbit_send"),
    (1700, 1231, "numeric", "numeric_out", "numeric_send"),
    (2950, 2951, "uuid", "uuid_out", "uuid_send"),
    (3802, 3807, "jsonb", "jsonb_out", "jsonb_send"),
];

static TYPES: LazyLock<Arc<Types>> = LazyLock::new(|| {
    let entry = |oid, name: String, (output, send): (&str, &str)| TypeEntry {
        oid,
        name,
        output: output.to_owned(),
        send: send.to_owned(),
        delimiter: b',',
        ..TypeEntry::default()
    };
    let both = STANDARD.iter().flat_map(|(oid, array, name, output, send)| {
        let of_array = entry(*array, format!("{name}[]"), ("array_out", "array_send"));
        [
            entry(*oid, (*name).to_owned(), (output, send)),
            TypeEntry {
                element: *oid,
                ..of_array
            },
        ]
    });
    // None of these texts depends on the version.
    Arc::new(Types::new(0, both))
});

/// These types and their arrays.
pub(in crate::decode) fn standard() -> &'static Arc<Types> {
    &TYPES
}

/// Whether the type is one of them.
pub fn is_alike_everywhere(oid: u32) -> bool {
    STANDARD
        .iter()
        .any(|(element, array, ..)| [*element, *array].contains(&oid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_form() {
        for (oid, array, name, ..) in STANDARD {
            for oid in [oid, array] {
                assert_eq!(TYPES.unreadable(oid), None, "{name}");
            }
        }
    }
}
