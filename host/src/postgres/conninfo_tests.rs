//! Connection strings as libpq documents and tests them.

use super::*;

fn parse_in(text: &str, environment: &[(&str, &str)]) -> Result<Conninfo, ConninfoError> {
    let variables = |name: &str| {
        let found = environment.iter().find(|(key, _)| *key == name);
        found
            .map(|(_, value)| (*value).to_owned())
            .or_else(|| (name == "USER").then(|| "me".to_owned()))
    };
    Conninfo::parse_with(text, &variables)
}

fn parse(text: &str) -> Conninfo {
    parse_in(text, &[]).unwrap()
}

fn hosts(text: &str) -> String {
    parse(text).hosts.iter().map(Host::label).collect::<Vec<_>>().join(" ")
}

#[test]
fn hosts_and_ports_read_as_libpq_has_them() {
    let cases = [
        ("postgresql://localhost", "localhost:5432"),
        ("postgres://localhost:5433/mydb", "localhost:5433"),
        ("postgresql://user:secret@localhost/db", "localhost:5432"),
        ("postgresql://host1:123,host2:456/somedb", "host1:123 host2:456"),
        ("postgresql://host1,host2:456", "host1:5432 host2:456"),
        ("postgresql://[2001:db8::1234]/database", "2001:db8::1234:5432"),
        ("postgresql://[::1]:5433", "::1:5433"),
        (
            "postgresql://%2Fvar%2Flib%2Fpostgresql/dbname",
            "/var/lib/postgresql/.s.PGSQL.5432",
        ),
        ("postgresql:///dbname?host=/tmp&port=6000", "/tmp/.s.PGSQL.6000"),
        ("postgresql:///mydb?host=localhost&port=5433", "localhost:5433"),
        (
            "host=localhost port=5432 dbname=mydb connect_timeout=10",
            "localhost:5432",
        ),
        ("host=a,b port=7", "a:7 b:7"),
        ("host = 'a' port = '7'", "a:7"),
        ("hostaddr=10.0.0.1 host=name", "name:5432"),
        ("hostaddr=10.0.0.1", "10.0.0.1:5432"),
        ("host=/run/postgresql", "/run/postgresql/.s.PGSQL.5432"),
    ];
    for (text, expected) in cases {
        assert_eq!(hosts(text), expected, "{text}");
    }
}

#[test]
fn who_and_which_database() {
    let cases = [
        ("postgresql://other@localhost/otherdb", "other", "otherdb", None),
        ("postgresql://user:secret@localhost", "user", "user", Some("secret")),
        (
            "postgresql://us%40er:p%2Fw%3A%25@h/d%20b",
            "us@er",
            "d b",
            Some("p/w:%"),
        ),
        ("postgresql://user:a:b@h/d", "user", "d", Some("a:b")),
        ("postgresql:///", "me", "me", None),
        ("postgresql://h/d?user=u&password=p", "u", "d", Some("p")),
        (
            "user=u password='it\\'s a \\\\ one' dbname=d",
            "u",
            "d",
            Some("it's a \\ one"),
        ),
        ("user=u password=a\\ b", "u", "u", Some("a b")),
        ("user=u password=''", "u", "u", None),
    ];
    for (text, user, dbname, password) in cases {
        let conninfo = parse(text);
        assert_eq!(
            (conninfo.user.as_str(), conninfo.dbname.as_str()),
            (user, dbname),
            "{text}"
        );
        assert_eq!(conninfo.password.as_ref().map(Secret::reveal), password, "{text}");
    }
}

/// The first `@` ends the user and the password, so that the rest of a password would count as a host or a database, which
/// are told.
#[test]
fn a_password_with_a_raw_at_sign_is_refused_and_nothing_of_it_told() {
    for text in [
        "postgres://app:p@ssw0rd@db/shop",
        "postgres://app:p@ssw0rd:5432@db:5433/shop",
        "postgres://app:p@a,ssw0rd@db/shop",
        "postgres://app:p@ssw/0rd@db/shop",
        "postgres://app:5432/ssw0rd@db/shop",
        "postgres://app:p@db?ssw0rd@db/shop=1",
        "host=ssw0rd@db user=app",
        "host=ssw0rd@db hostaddr=10.0.0.1 user=app",
    ] {
        let error = parse_in(text, &[]).unwrap_err();
        assert_eq!(error, ConninfoError::AtSign, "{text}");
        let problem = Problem::from(error);
        assert!(problem.headline.contains("%40"), "{problem:?}");
        assert!(!format!("{problem:?}").contains("0rd"), "{problem:?}");
    }
    let encoded = parse("postgres://app:p%40ssw0rd@db/shop?options=-c%20a.b%3D@");
    assert_eq!(encoded.password.as_ref().map(Secret::reveal), Some("p@ssw0rd"));
    assert_eq!(encoded.hosts[0].label(), "db:5432");
    assert_eq!(hosts("host=/tmp/@here"), "/tmp/@here/.s.PGSQL.5432");
}

#[test]
fn variables_stand_in_for_what_is_not_given() {
    let environment = [
        ("PGHOST", "envhost"),
        ("PGPORT", "6543"),
        ("PGUSER", "envuser"),
        ("PGDATABASE", "envdb"),
        ("PGPASSWORD", "envsecret"),
        ("PGSSLMODE", "require"),
    ];
    let conninfo = parse_in("", &environment).unwrap();
    assert_eq!(conninfo.hosts[0].label(), "envhost:6543");
    assert_eq!((conninfo.user.as_str(), conninfo.dbname.as_str()), ("envuser", "envdb"));
    assert_eq!(conninfo.password.as_ref().map(Secret::reveal), Some("envsecret"));
    assert_eq!(conninfo.ssl_mode, SslMode::Require);
    let stronger = parse_in("postgresql://u@h:1/d?sslmode=disable", &environment).unwrap();
    assert_eq!(stronger.hosts[0].label(), "h:1");
    assert_eq!(stronger.ssl_mode, SslMode::Disable);
}

#[test]
fn tls_modes_and_roots() {
    use RootCertificate::{File, System};
    let file = || Some(File("/ca.pem".into()));
    let cases = [
        ("host=h", SslMode::Prefer, None),
        ("host=h sslmode=allow", SslMode::Prefer, None),
        ("host=h sslmode=require", SslMode::Require, None),
        ("host=h sslmode=require sslrootcert=/ca.pem", SslMode::VerifyCa, file()),
        (
            "host=h sslmode=verify-full sslrootcert=/ca.pem",
            SslMode::VerifyFull,
            file(),
        ),
        ("host=h sslmode=verify-full", SslMode::VerifyFull, Some(System)),
        ("host=h sslrootcert=system", SslMode::VerifyFull, Some(System)),
        ("postgresql://h/d?ssl=true", SslMode::Require, None),
        (
            "postgresql://ep-x.eu-1.aws.neon.tech/d?sslmode=require",
            SslMode::VerifyFull,
            Some(System),
        ),
        (
            "postgresql://ep-x.eu-1.aws.neon.tech/d",
            SslMode::VerifyFull,
            Some(System),
        ),
        (
            "postgresql://ep-x.neon.tech/d?sslmode=verify-ca",
            SslMode::VerifyCa,
            Some(System),
        ),
        ("postgresql://notneon.tech/d", SslMode::Prefer, None),
    ];
    for (text, mode, root) in cases {
        let conninfo = parse(text);
        assert_eq!((conninfo.ssl_mode, conninfo.ssl_root), (mode, root), "{text}");
    }
}

#[test]
fn the_rest_of_the_parameters() {
    let conninfo = parse(
        "postgresql://u@ep-x-pooler.neon.tech/d?options=endpoint%3Dep-x&application_name=app&channel_binding=require\
         &connect_timeout=1&target_session_attrs=read-write&keepalives=1",
    );
    assert_eq!(conninfo.options.as_deref(), Some("endpoint=ep-x"));
    assert_eq!(conninfo.application_name.as_deref(), Some("app"));
    assert_eq!(conninfo.channel_binding, ChannelBinding::Require);
    assert_eq!(conninfo.connect_timeout, Some(Duration::from_secs(2)));
    assert_eq!(conninfo.session_kind, SessionKind::ReadWrite);
    assert!(conninfo.is_pooler_host());
    assert!(!parse("host=ep-x.neon.tech").is_pooler_host());
    assert_eq!(parse("host=h connect_timeout=0").connect_timeout, None);
}

#[test]
fn what_is_wrong_is_named_but_never_quoted() {
    let cases = [
        (
            "postgresql://u:hunter2@h/d?sslcolour=red",
            "parameter `sslcolour` is unknown",
        ),
        ("host=h colour=red", "parameter `colour` is unknown"),
        (
            "host=h sslmode=hunter2",
            "parameter `sslmode` must be disable, allow, prefer, require, verify-ca or verify-full",
        ),
        (
            "postgresql://u:hunter2@h:hunter2/d",
            "parameter `port` must be a number from 1 to 65535",
        ),
        ("host=h port=0", "parameter `port` must be a number from 1 to 65535"),
        ("host=a,b,c port=1,2", "`port` lists 2 values for 3 hosts"),
        ("hostaddr=hunter2", "parameter `hostaddr` must be an IP address"),
        (
            "postgresql://u:hunter2%zz@h",
            "a `%` is not followed by two hexadecimal digits, or encodes no text",
        ),
        (
            "postgresql://h/d?user=a%00b",
            "a `%` is not followed by two hexadecimal digits, or encodes no text",
        ),
        ("postgresql://[::1/d", "a `[` has no matching `]` before the port"),
        ("postgresql://h/d?user", "a parameter has no `=` and value behind it"),
        (
            "postgresql://h/d?options=a=b",
            "a query parameter has more than one `=`; write %3D for those in its value",
        ),
        ("password='hunter2", "a quote has no end"),
        ("hunter2", "a parameter has no `=` and value behind it"),
        (
            "host=h sslmode=require sslrootcert=system",
            "parameter `sslmode` must be verify-full where sslrootcert is system",
        ),
    ];
    for (text, expected) in cases {
        let error = parse_in(text, &[]).unwrap_err();
        assert_eq!(error.to_string(), expected, "{text}");
        assert!(!format!("{error:?}").contains("hunter2"));
    }
    let debug = format!("{:?}", parse("postgresql://u:hunter2@h/d"));
    assert!(!debug.contains("hunter2"), "{debug}");
}
