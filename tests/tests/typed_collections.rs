//! The SDK's accessors of what has values within, against Postgres: arrays, ranges, json.

use rowmill_plugin::postgres::{Array, Bound, FromText, Json, JsonKind, Numeric, Range, Timestamp};
use rowmill_tests::{Oracle, number};
use std::borrow::Cow;

/// Arrays and what their elements are, both as Postgres says.
fn check_arrays(oracle: &Oracle, arrays: &str) -> usize {
    let rows = oracle.rows(&format!(
        "SELECT v, coalesce(array_ndims(v), 0), cardinality(v),
            (SELECT string_agg(array_lower(v, d) || ' ' || array_length(v, d), ',' ORDER BY d)
             FROM generate_series(1, array_ndims(v)) d),
            n FROM (SELECT v, row_number() OVER () AS n FROM ({arrays}) a(v)) numbered ORDER BY n"
    ));
    let elements = oracle.rows(&format!(
        "SELECT n, e::text FROM (SELECT v, row_number() OVER () AS n FROM ({arrays}) a(v)) numbered,
            unnest(v) WITH ORDINALITY u(e, o) ORDER BY n, o"
    ));
    for row in &rows {
        let text = row[0].as_deref().unwrap();
        let array = Array::from_text(text).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(Some(array.dimensions().len()), number(&row[1]), "{text}");
        assert_eq!(Some(array.len()), number(&row[2]), "{text}");
        let dimensions: Vec<_> = array
            .dimensions()
            .iter()
            .map(|found| format!("{} {}", found.lower, found.len))
            .collect();
        assert_eq!(dimensions.join(","), row[3].clone().unwrap_or_default(), "{text}");
        let expected = elements
            .iter()
            .filter(|element| element[0] == row[4])
            .map(|element| element[1].as_deref());
        let found: Vec<_> = array.elements().map(|element| element.text()).collect();
        let found: Vec<_> = found.iter().map(|text| text.as_deref()).collect();
        assert_eq!(found, expected.collect::<Vec<_>>(), "{text}");
    }
    rows.len()
}

#[test]
fn arrays() {
    let oracle = Oracle::start();
    let texts = r#"SELECT v::text[] FROM (VALUES ('{}'), ('{a}'), ('{NULL}'), ('{"NULL"}'), ('{null,nUlL,"null"}'),
        ('{"","a b"," a ","{","}","{}",",","\"","\\","a\\b","\"quoted\"","tab	and
newline"}'), ('{{a,b},{c,NULL}}'), ('{{{1},{2}},{{3},{4}}}'), ('[0:1]={a,b}'), ('[-3:-2][5:6]={{a,b},{c,d}}'),
        ('{ä,"ö ü",日本,"🦀"}'), ('{\\,a\ b}')) made(v)"#;
    assert_eq!(check_arrays(&oracle, texts), 12);
    // Of every byte and sequence that may need quotes.
    let random = r#"SELECT ARRAY(SELECT CASE WHEN random() < 0.1 THEN NULL ELSE
            (SELECT coalesce(string_agg((ARRAY['a', '"', '\', ',', '{', '}', ' ', E'\t', E'\n', E'\v', E'\f', E'\r', 'é', 'NULL',
             '''', '(', '[', '=', ':'])[floor(random() * 19 + 1 + 0 * m + 0 * k)::int], ''), '')
             FROM generate_series(1, floor(random() * 6 + 0 * m)::int) k) END
        FROM generate_series(1, floor(random() * 5 + 0 * n)::int) m) FROM generate_series(1, 1000) n"#;
    // The same rows for both queries.
    oracle.rows(&format!("CREATE TEMP TABLE made AS {random}"));
    assert_eq!(check_arrays(&oracle, "SELECT * FROM made"), 1000);
    for arrays in [
        "VALUES ('{1,NULL,-9223372036854775808}'::bigint[]), ('[2:3]={1,2}'), ('{{1,2},{3,4}}')",
        "VALUES ('{NaN,Infinity,-Infinity,0,1e300}'::float8[])",
        "VALUES ('{t,f,NULL}'::bool[])",
        r"VALUES (ARRAY['\x00ff'::bytea, '\x', NULL])",
        "VALUES ('{infinity,-infinity,0044-03-15 BC,2024-02-29}'::date[])",
        "VALUES (ARRAY['infinity', '294276-12-31 23:59:59.999999', '4713-01-01 BC'::timestamp, NULL])",
        "VALUES (ARRAY['1 year -3 days 04:05:06.5'::interval, '0'])",
        "VALUES (ARRAY['NaN', 'Infinity', 1.50::numeric, NULL])",
        r#"VALUES (ARRAY['{"a": "b\"c", "d": [1, null]}'::jsonb, 'null', NULL])"#,
        "VALUES (ARRAY[tstzrange('2024-01-01', 'infinity', '[]'), 'empty', NULL])",
        "VALUES ('{00000000-0000-4000-8000-0123456789ab}'::uuid[])",
    ] {
        // Booleans are `t` in arrays and `true` by themselves.
        if arrays.contains("bool") {
            let row = &oracle.rows(arrays)[0];
            let array = Array::from_text(row[0].as_deref().unwrap()).unwrap();
            let found: Vec<Option<bool>> = array.elements().map(|element| element.get()).collect();
            assert_eq!(found, [Some(true), Some(false), None]);
        } else {
            assert!(check_arrays(&oracle, arrays) > 0, "{arrays}");
        }
    }
}

#[test]
fn elements_are_read_as_their_types() {
    let oracle = Oracle::start();
    let one = |sql: &str| oracle.rows(&format!("SELECT {sql}"))[0][0].clone().unwrap();
    let text = one(r#"ARRAY['{"a": "b\"c"}'::jsonb]"#);
    let element = Array::from_text(&text).unwrap().elements().next().unwrap();
    let json = element.get::<Json<'_>>().unwrap();
    assert_eq!(json.get("a").unwrap().as_text().unwrap(), "b\"c");
    let text = one("ARRAY[tsrange('2024-01-01', 'infinity')]");
    let element = Array::from_text(&text).unwrap().elements().next().unwrap();
    let Some(Range::Between(lower, upper)) = element.get() else {
        panic!("{text}");
    };
    let bound = |bound: &Bound<'_>| bound.get::<Timestamp>().unwrap();
    assert_eq!(bound(&lower).to_string(), "2024-01-01 00:00:00");
    assert_eq!(bound(&upper), Timestamp::INFINITY);
    let text = one("ARRAY['NaN'::numeric, 1.50]");
    let array = Array::from_text(&text).unwrap();
    let elements: Vec<_> = array.elements().collect();
    let values: Vec<_> = elements
        .iter()
        .map(|element| element.get::<Numeric<'_>>().unwrap())
        .collect();
    assert!(values[0].is_nan() && values[1].scaled(2) == Some(150));
}

#[test]
fn ranges() {
    let oracle = Oracle::start();
    let made = r#"SELECT v, isempty(v), lower(v), upper(v), lower_inc(v), upper_inc(v) FROM (VALUES
        (tstzrange('2024-01-01', '2024-02-01')), (tstzrange(NULL, 'infinity', '(]')), ('empty'), (tstzrange(NULL, NULL)))
        made(v)"#;
    let texts = r#"SELECT v, isempty(v), lower(v), upper(v), lower_inc(v), upper_inc(v) FROM (VALUES
        (pg_temp.texts('a', 'b c', '[]')), (pg_temp.texts('"', '\', '[]')), (pg_temp.texts('(,', '[)]', '()')),
        (pg_temp.texts('', 'x')), (pg_temp.texts(NULL, ''))) made(v)"#;
    oracle.rows("CREATE TYPE pg_temp.texts AS RANGE (subtype = text, collation = \"C\")");
    for row in oracle.rows(made).into_iter().chain(oracle.rows(texts)) {
        let text = row[0].as_deref().unwrap();
        let range = Range::from_text(text).unwrap_or_else(|| panic!("{text}"));
        let Range::Between(lower, upper) = &range else {
            assert_eq!(row[1].as_deref(), Some("t"), "{text}");
            continue;
        };
        assert_eq!(row[1].as_deref(), Some("f"), "{text}");
        for (bound, at) in [(lower, 2), (upper, 3)] {
            assert_eq!(bound.text.as_deref(), row[at].as_deref(), "{text}");
            assert_eq!(
                Some(bound.is_inclusive),
                row[at + 2].as_deref().map(|flag| flag == "t"),
                "{text}"
            );
        }
    }
}

/// Members, elements and texts of json and jsonb, whatever is in them.
#[test]
fn jsons() {
    let oracle = Oracle::start();
    oracle.rows(
        r#"CREATE TEMP TABLE made AS
        WITH words AS (SELECT n, k, (SELECT coalesce(string_agg((ARRAY['a', '"', '\', '/', '{', '}', '[', ']', ',', ':', ' ', E'\n',
                E'\t', E'\b', E'\u0001', 'é', '🦀', 'null'])[floor(random() * 18 + 1 + 0 * m + 0 * n + 0 * k)::int], ''), '')
            FROM generate_series(1, floor(random() * 6 + 0 * n + 0 * k)::int) m) AS word
            FROM generate_series(1, 500) n, generate_series(1, 4) k)
        SELECT n, jsonb_build_object(
            'text', max(word) FILTER (WHERE k = 1),
            coalesce(max(word) FILTER (WHERE k = 2), ''), n,
            'list', jsonb_build_array(max(word) FILTER (WHERE k = 3), n / 7.0, NULL, n % 2 = 0, '[]'::jsonb, '{}'::jsonb,
                jsonb_build_object('deep', max(word) FILTER (WHERE k = 4)), -n * 1000000000000)) AS v
        FROM words GROUP BY n"#,
    );
    // As jsonb is written, and in other forms: with more space, and with escapes for all beyond ASCII.
    for form in [
        "v",
        "jsonb_pretty(v)::json",
        "replace(replace(v::text, 'é', '\\u00e9'), '🦀', '\\ud83e\\udd80')::json",
    ] {
        let rows = oracle.rows(&format!(
            "SELECT j, j ->> 'text', j -> 'list', j -> 'list' ->> 0, j -> 'list' ->> 1, j -> 'list' -> 6 ->> 'deep',
                j -> 'list' ->> 7, (SELECT count(*) FROM json_object_keys(j::json)), j -> 'nobody', n % 2 = 0
             FROM (SELECT n, {form} AS j FROM made) forms"
        ));
        assert_eq!(rows.len(), 500);
        for row in rows {
            let text = row[0].as_deref().unwrap();
            let json = Json::from_text(text).unwrap();
            let word = |json: Json<'_>| json.as_text().map(|text| text.into_owned());
            let list = json.get("list").unwrap();
            assert_eq!(json.get("text").and_then(word), row[1], "{text}");
            assert_eq!(Some(list.as_str()), row[2].as_deref(), "{text}");
            assert_eq!(list.at(0).and_then(word), row[3], "{text}");
            assert_eq!(list.at(1).unwrap().as_f64(), number(&row[4]), "{text}");
            assert_eq!(
                list.at(6).and_then(|deep| deep.get("deep")).and_then(word),
                row[5],
                "{text}"
            );
            assert_eq!(list.at(7).unwrap().as_i64(), number(&row[6]), "{text}");
            assert_eq!(Some(json.members().count()), number(&row[7]), "{text}");
            assert_eq!(json.get("nobody").map(|found| found.as_str().to_owned()), row[8]);
            assert_eq!(list.at(3).unwrap().as_bool(), Some(row[9].as_deref() == Some("t")));
            assert!(list.at(2).unwrap().is_null() && list.items().count() == 8 && list.at(8).is_none());
            let kinds = [4, 5].map(|at| list.at(at).unwrap().kind());
            assert_eq!(kinds, [JsonKind::Array, JsonKind::Object]);
        }
    }
    // The last of members with one name counts.
    let row = &oracle.rows(r#"SELECT j, j ->> 'a' FROM (SELECT '{"a": 1, "b": 2, "a": 3}'::json AS j) t"#)[0];
    let json = Json::from_text(row[0].as_deref().unwrap()).unwrap();
    assert_eq!(json.get("a").map(|found| found.as_str()), row[1].as_deref());
}

/// What a json may be that a jsonb isn't, and what a text is that is no json: as Postgres takes them.
#[test]
fn jsons_as_they_are_written() {
    let oracle = Oracle::start();
    let row = &oracle.rows(r#"SELECT '{"\ud800": 1, "\u0000": 2, "email": "x"}'::json"#)[0];
    let json = Json::from_text(row[0].as_deref().unwrap()).unwrap();
    assert_eq!(json.members().count(), 3);
    assert_eq!(json.get("email").unwrap().as_text().unwrap(), "x");
    // Numbers that are integers, as `numeric` has them.
    let rows = oracle.rows(
        r#"SELECT j ->> 0, CASE WHEN v = trunc(v) AND abs(v) < 1e18 THEN v::bigint END FROM
        (SELECT j, (j ->> 0)::numeric AS v FROM (SELECT json_build_array((m::text || e)::json) AS j
            FROM unnest(ARRAY['0', '-0', '1', '-7', '10', '1200', '1.5', '-0.25', '3.00', '0.0', '123456789012345678', '0.10']) m,
                 unnest(ARRAY['', 'e0', 'e1', 'E+2', 'e-1', 'e-2', 'e17', 'e-20']) e) made) numbers"#,
    );
    assert_eq!(rows.len(), 96);
    for row in rows {
        let text = row[0].as_deref().unwrap();
        let found = Json::from_text(text)
            .unwrap()
            .as_i64()
            .filter(|found| found.unsigned_abs() < 10u64.pow(18));
        assert_eq!(found, row[1].as_deref().and_then(|value| value.parse().ok()), "{text}");
    }
    // Anything that is put together of pieces.
    oracle.rows(
        "CREATE FUNCTION pg_temp.is_json(text) RETURNS boolean LANGUAGE plpgsql
         AS $$ BEGIN PERFORM $1::json; RETURN true; EXCEPTION WHEN OTHERS THEN RETURN false; END $$",
    );
    let rows = oracle.rows(
        r#"SELECT t, pg_temp.is_json(t) FROM (SELECT string_agg((ARRAY['{', '}', '[', ']', ',', ':', '"', '"a"', '"a":',
            '\', '\u00e9', '\ud800', '\n', '1', '0', '-', '.', 'e', '+', 'true', 'null', ' ', E'\n', E'\u0001', 'é', '{"a":1}',
            '[1,2]', '1.5e-3'])[floor(random() * 28 + 1 + 0 * n + 0 * k)::int], '') AS t
        FROM generate_series(1, 20000) n, generate_series(1, 1 + n % 6) k GROUP BY n) made"#,
    );
    let valid = rows.iter().filter(|row| row[1].as_deref() == Some("t")).count();
    assert!(valid > 500, "{valid} of them are json");
    for row in rows {
        let text = row[0].as_deref().unwrap();
        assert_eq!(
            Json::from_text(text).is_some(),
            row[1].as_deref() == Some("t"),
            "{text}"
        );
    }
}

/// Boxes are separated by semicolons, which a text alone doesn't tell.
#[test]
fn arrays_of_boxes() {
    let oracle = Oracle::start();
    let delimited = oracle.rows("SELECT DISTINCT typdelim FROM pg_type WHERE typdelim <> ','");
    assert_eq!(delimited, [[Some(";".to_owned())]]);
    let oid = oracle.rows("SELECT 'box[]'::regtype::oid, array_agg(typname) FROM pg_type WHERE typdelim = ';'");
    assert_eq!(oid[0], [Some("1020".to_owned()), Some("{box,_box}".to_owned())]);
    for boxes in [
        "{(1,1),(0,0);(3,3),(2,2);NULL}",
        "[0:1][1:1]={{(1,1),(0,0)};{(3,3),(2,2)}}",
        "{}",
    ] {
        let text = oracle.rows(&format!("SELECT '{boxes}'::box[]"))[0][0].clone().unwrap();
        let array = Array::delimited(&text, b';').unwrap();
        let found: Vec<_> = array
            .elements()
            .map(|element| vec![element.text().map(Cow::into_owned)])
            .collect();
        let expected = oracle.rows(&format!(
            "SELECT e::text FROM unnest('{boxes}'::box[]) WITH ORDINALITY u(e, o) ORDER BY o"
        ));
        assert_eq!(found, expected, "{text}");
    }
}
