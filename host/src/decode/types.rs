//! Names of Postgres' own types. pgoutput names other types itself, before it uses them.

/// As `format_type(oid, NULL)` writes it; `None` for a type that isn't built in.
pub fn builtin_type_name(oid: u32) -> Option<&'static str> {
    let at = BUILTIN.binary_search_by_key(&oid, |(known, _)| *known).ok()?;
    Some(BUILTIN[at].1)
}

/// The OID of a built-in type, by the name that [`builtin_type_name`] gives it.
pub fn builtin_type_oid(name: &str) -> Option<u32> {
    let entry = BUILTIN.iter().find(|(_, known)| *known == name)?;
    Some(entry.0)
}

/// Ascending by OID, from `pg_type.dat`.
const BUILTIN: &[(u32, &str)] = &[
    (16, "boolean"),
    (17, "bytea"),
    (18, "\"char\""),
    (19, "name"),
    (20, "bigint"),
    (21, "smallint"),
    (22, "int2vector"),
    (23, "integer"),
    (24, "regproc"),
    (25, "text"),
    (26, "oid"),
    (27, "tid"),
    (28, "xid"),
    (29, "cid"),
    (30, "oidvector"),
    (114, "json"),
    (142, "xml"),
    (143, "xml[]"),
    (199, "json[]"),
    (600, "point"),
    (601, "lseg"),
    (602, "path"),
    (603, "box"),
    (604, "polygon"),
    (628, "line"),
    (629, "line[]"),
    (650, "cidr"),
    (651, "cidr[]"),
    (700, "real"),
    (701, "double precision"),
    (718, "circle"),
    (719, "circle[]"),
    (774, "macaddr8"),
    (775, "macaddr8[]"),
    (790, "money"),
    (791, "money[]"),
    (829, "macaddr"),
    (869, "inet"),
    (1000, "boolean[]"),
    (1001, "bytea[]"),
    (1002, "\"char\"[]"),
    (1003, "name[]"),
    (1005, "smallint[]"),
    (1007, "integer[]"),
    (1009, "text[]"),
    (1014, "character[]"),
    (1015, "character varying[]"),
    (1016, "bigint[]"),
    (1017, "point[]"),
    (1018, "lseg[]"),
    (1019, "path[]"),
    (1020, "box[]"),
    (1021, "real[]"),
    (1022, "double precision[]"),
    (1027, "polygon[]"),
    (1028, "oid[]"),
    (1040, "macaddr[]"),
    (1041, "inet[]"),
    (1042, "character"),
    (1043, "character varying"),
    (1082, "date"),
    (1083, "time without time zone"),
    (1114, "timestamp without time zone"),
    (1115, "timestamp without time zone[]"),
    (1182, "date[]"),
    (1183, "time without time zone[]"),
    (1184, "timestamp with time zone"),
    (1185, "timestamp with time zone[]"),
    (1186, "interval"),
    (1187, "interval[]"),
    (1231, "numeric[]"),
    (1266, "time with time zone"),
    (1270, "time with time zone[]"),
    (1560, "bit"),
    (1561, "bit[]"),
    (1562, "bit varying"),
    (1563, "bit varying[]"),
    (1700, "numeric"),
    (2205, "regclass"),
    (2950, "uuid"),
    (2951, "uuid[]"),
    (3220, "pg_lsn"),
    (3221, "pg_lsn[]"),
    (3614, "tsvector"),
    (3615, "tsquery"),
    (3643, "tsvector[]"),
    (3645, "tsquery[]"),
    (3802, "jsonb"),
    (3807, "jsonb[]"),
    (3904, "int4range"),
    (3905, "int4range[]"),
    (3906, "numrange"),
    (3907, "numrange[]"),
    (3908, "tsrange"),
    (3909, "tsrange[]"),
    (3910, "tstzrange"),
    (3911, "tstzrange[]"),
    (3912, "daterange"),
    (3913, "daterange[]"),
    (3926, "int8range"),
    (3927, "int8range[]"),
    (4072, "jsonpath"),
    (4073, "jsonpath[]"),
    (4451, "int4multirange"),
    (4532, "nummultirange"),
    (4533, "tsmultirange"),
    (4534, "tstzmultirange"),
    (4535, "datemultirange"),
    (4536, "int8multirange"),
    (5069, "xid8"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_agrees_with_the_server() {
        assert!(BUILTIN.is_sorted_by_key(|(oid, _)| *oid));
        let cluster = rowmill_tests::Cluster::start().unwrap();
        for (oid, name) in BUILTIN {
            assert_eq!(
                &cluster
                    .sql("postgres", &format!("SELECT format_type({oid}, NULL)"))
                    .unwrap(),
                name
            );
        }
    }
}
