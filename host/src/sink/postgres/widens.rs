//! Which types hold all values of another one, as they are.

/// A type with its modifier, as Postgres numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) oid: u32,
    pub(super) typmod: i32,
}

const INT8: u32 = 20;
const INT2: u32 = 21;
const INT4: u32 = 23;
const TEXT: u32 = 25;
const JSON: u32 = 114;
const FLOAT4: u32 = 700;
const FLOAT8: u32 = 701;
const BPCHAR: u32 = 1042;
const VARCHAR: u32 = 1043;
const TIME: u32 = 1083;
const TIMESTAMP: u32 = 1114;
const TIMESTAMPTZ: u32 = 1184;
const TIMETZ: u32 = 1266;
const VARBIT: u32 = 1562;
const NUMERIC: u32 = 1700;
const JSONB: u32 = 3802;

/// In front of precision and scale, as of lengths.
const HEADER: i32 = 4;

impl Kind {
    /// Whether its modifier is a length.
    pub(super) fn is_of_characters(self) -> bool {
        matches!(self.oid, BPCHAR | VARCHAR)
    }
}

/// Whether `to` holds every value of `from`, as that type's cast to it says it.
pub(super) fn widens(from: Kind, to: Kind) -> bool {
    if from.oid == to.oid {
        return to.typmod == -1 || from.typmod == to.typmod || from.typmod != -1 && has_more(from, to);
    }
    let unbounded = to.typmod == -1;
    match (from.oid, to.oid) {
        (_, TEXT) => true,
        (_, VARCHAR) if unbounded => true,
        (BPCHAR, VARCHAR) => from.typmod != -1 && to.typmod >= from.typmod,
        (INT2, INT4 | INT8 | FLOAT4 | FLOAT8) | (INT4, INT8 | FLOAT8) | (FLOAT4, FLOAT8) | (JSONB, JSON) => true,
        (INT2, NUMERIC) => has_digits(to, 5),
        (INT4, NUMERIC) => has_digits(to, 10),
        (INT8, NUMERIC) => has_digits(to, 19),
        _ => false,
    }
}

fn has_more(from: Kind, to: Kind) -> bool {
    match from.oid {
        VARCHAR | BPCHAR | VARBIT | TIME | TIMETZ | TIMESTAMP | TIMESTAMPTZ => to.typmod >= from.typmod,
        NUMERIC => {
            let ((from_precision, from_scale), (to_precision, to_scale)) = (digits(from), digits(to));
            to_scale >= from_scale && to_precision - to_scale >= from_precision - from_scale
        }
        _ => false,
    }
}

/// Whether a number has so many digits before its point.
fn has_digits(numeric: Kind, whole: i32) -> bool {
    let (precision, scale) = digits(numeric);
    numeric.typmod == -1 || scale >= 0 && precision - scale >= whole
}

/// Precision and scale; that has eleven bits, with its sign, from version 15 on.
fn digits(numeric: Kind) -> (i32, i32) {
    let typmod = numeric.typmod - HEADER;
    (typmod >> 16 & 0xFFFF, ((typmod & 0x7FF) ^ 1024) - 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rowmill_tests::Cluster;

    /// As pairs of names, asked of a server.
    fn of(cluster: &Cluster, names: &[&str]) -> Vec<Kind> {
        let columns: Vec<String> = names
            .iter()
            .enumerate()
            .map(|(at, name)| format!("c{at} {name}"))
            .collect();
        let sql = format!("CREATE TABLE kinds ({})", columns.join(", "));
        cluster.sql("postgres", &sql).unwrap();
        let select = "SELECT atttypid, atttypmod FROM pg_attribute WHERE attrelid = 'kinds'::regclass AND attnum > 0 ORDER BY attnum";
        let found = cluster.sql("postgres", select).unwrap();
        cluster.sql("postgres", "DROP TABLE kinds").unwrap();
        let kind = |line: &str| {
            let (oid, typmod) = line.split_once('|').unwrap();
            Kind {
                oid: oid.parse().unwrap(),
                typmod: typmod.parse().unwrap(),
            }
        };
        found.lines().map(kind).collect()
    }

    #[test]
    fn what_holds_more_is_wider() {
        let cluster = Cluster::start().unwrap();
        for (from, to, expected) in [
            ("int2", "int4", true),
            ("int4", "int8", true),
            ("int8", "int4", false),
            ("int8", "numeric", true),
            ("int8", "numeric(18)", false),
            ("int4", "numeric(12,2)", true),
            ("int4", "float4", false),
            ("float4", "float8", true),
            ("varchar(5)", "varchar(6)", true),
            ("varchar(6)", "varchar(5)", false),
            ("varchar", "varchar(5)", false),
            ("varchar(5)", "text", true),
            ("text", "varchar", true),
            ("text", "varchar(9)", false),
            ("char(3)", "char(4)", true),
            ("char(3)", "varchar(3)", true),
            ("numeric(5,2)", "numeric(6,3)", true),
            ("numeric(5,2)", "numeric(6,4)", false),
            ("numeric(5,2)", "numeric", true),
            ("numeric", "numeric(5,2)", false),
            ("timestamp(3)", "timestamp", true),
            ("timestamp", "timestamptz", false),
            ("uuid", "text", true),
            ("text", "uuid", false),
            ("jsonb", "json", true),
            ("json", "jsonb", false),
            ("int4[]", "int8[]", false),
            ("int4", "date", false),
        ] {
            let [from_kind, to_kind] = of(&cluster, &[from, to])[..] else {
                panic!("{from} {to}")
            };
            assert_eq!(widens(from_kind, to_kind), expected, "{from} to {to}");
        }
    }
}
