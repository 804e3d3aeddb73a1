//! Connecting to real servers: passwords, TLS, pinned settings.

use super::{ConnectError, Conninfo, QueryError, Reader, Reason, sql};
use crate::problem::Problem;
use crate::source::replication::Connection;
use rowmill_tests::{Cluster, ClusterOptions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The error of both ways in, which must agree.
async fn refused(text: &str) -> ConnectError {
    let conninfo = Conninfo::parse(text).unwrap();
    let by_sql = sql::connect(&conninfo, "rowmill test")
        .await
        .map(drop)
        .expect_err("refused");
    let by_replication = Connection::connect(&conninfo, "rowmill test")
        .await
        .err()
        .expect("refused");
    assert_eq!(by_sql.failure().reason, by_replication.failure().reason);
    assert_eq!(by_sql.sqlstate(), by_replication.sqlstate());
    assert!(!by_sql.to_string().contains("hunter2") && !by_replication.to_string().contains("hunter2"));
    by_sql
}

/// All ways in work; the value of a query that each runs.
async fn ask(text: &str, query: &str) -> String {
    let conninfo = Conninfo::parse(text).unwrap();
    let client = sql::connect(&conninfo, "rowmill test").await.unwrap();
    let by_sql: String = client
        .query_one(&format!("SELECT ({query})::text"), &[])
        .await
        .unwrap()
        .get(0);
    let mut connection = Connection::connect(&conninfo, "rowmill test").await.unwrap();
    let rows = connection.simple_query(query).await.unwrap();
    assert_eq!(rows[0][0].as_deref(), Some(by_sql.as_str()));
    let mut reader = Reader::connect(&conninfo, "rowmill test").await.unwrap();
    assert_eq!(reader.rows(query).await.unwrap(), rows);
    by_sql
}

fn cluster(hba: &[&str], settings: &[String]) -> Cluster {
    let options = ClusterOptions {
        settings: settings.to_vec(),
        hba: hba.iter().map(|line| (*line).to_owned()).collect(),
    };
    let cluster = Cluster::start_with(&options).unwrap();
    cluster
        .sql("postgres", "CREATE ROLE anna LOGIN REPLICATION PASSWORD 'hunter2'")
        .unwrap();
    cluster
}

fn url(cluster: &Cluster, password: &str, rest: &str) -> String {
    format!(
        "postgresql://anna:{password}@127.0.0.1:{}/postgres{rest}",
        cluster.port()
    )
}

#[tokio::test]
async fn scram_over_tcp_takes_the_right_password_only() {
    let cluster = cluster(&["host all anna all scram-sha-256"], &[]);
    assert_eq!(
        ask(&url(&cluster, "hunter2", ""), "SELECT current_user::text").await,
        "anna"
    );
    let wrong = refused(&url(&cluster, "wrong", "")).await;
    assert_eq!((wrong.sqlstate(), wrong.is_transient()), (Some("28P01"), false));
    assert_eq!(Problem::from(wrong).code, "E0253");
    let missing = refused(&format!("postgresql://anna@127.0.0.1:{}/postgres", cluster.port())).await;
    assert_eq!(missing.failure().reason, Reason::Password);
    let unbound = refused(&url(&cluster, "hunter2", "?channel_binding=require")).await;
    assert!(unbound.to_string().contains("channel binding"), "{unbound}");
}

#[tokio::test]
async fn s11_refusals_say_what_a_person_has_to_do() {
    let cluster = cluster(&["host all barred all reject"], &[]);
    cluster
        .sql("postgres", "CREATE ROLE barred LOGIN; CREATE ROLE plain LOGIN")
        .unwrap();
    let at = |user: &str, database: &str| format!("postgresql://{user}@127.0.0.1:{}/{database}", cluster.port());
    assert_eq!(refused(&at("barred", "postgres")).await.sqlstate(), Some("28000"));
    assert_eq!(refused(&at("postgres", "nowhere")).await.sqlstate(), Some("3D000"));
    let plain = Conninfo::parse(&at("plain", "postgres")).unwrap();
    let error = Connection::connect(&plain, "rowmill test").await.err().unwrap();
    assert_eq!((error.sqlstate(), error.is_transient()), (Some("42501"), false));
    assert_eq!(Problem::from(error).code, "E0256");
    let port = cluster.port();
    drop(cluster);
    let gone = refused(&format!("postgresql://postgres@127.0.0.1:{port}/postgres")).await;
    assert!(gone.is_transient());
    assert_eq!(Problem::from(gone).code, "E0251");
}

#[tokio::test]
async fn a_password_in_clear_needs_a_private_way() {
    let cluster = cluster(&["local all anna password", "host all anna all password"], &[]);
    let error = refused(&url(&cluster, "hunter2", "")).await;
    assert!(error.to_string().contains("in clear"), "{error}");
    let text = format!(
        "host={} port={} user=anna password=hunter2 dbname=postgres",
        cluster.socket_dir().display(),
        cluster.port()
    );
    assert_eq!(ask(&text, "SELECT current_user::text").await, "anna");
}

#[tokio::test]
async fn md5_passwords_are_answered() {
    let cluster = cluster(&["host all mia all md5"], &[]);
    let sql = "SET password_encryption = 'md5'; CREATE ROLE mia LOGIN REPLICATION PASSWORD 'hunter2'";
    cluster.sql("postgres", sql).unwrap();
    let text = url(&cluster, "hunter2", "").replace("anna", "mia");
    assert_eq!(ask(&text, "SELECT current_user::text").await, "mia");
}

#[tokio::test]
async fn the_text_of_values_does_not_depend_on_the_roles_defaults() {
    let cluster = cluster(&[], &[]);
    let settings = [
        // The order of day and month counts on input only.
        ("DateStyle", "'German'", "ISO, DMY"),
        ("IntervalStyle", "'sql_standard'", "postgres"),
        ("TimeZone", "'Asia/Tokyo'", "UTC"),
        ("extra_float_digits", "0", "3"),
        ("bytea_output", "'escape'", "hex"),
        ("search_path", "'public'", "\"\""),
        ("statement_timeout", "'1h'", "0"),
        ("standard_conforming_strings", "off", "on"),
        ("client_encoding", "'LATIN1'", "UTF8"),
        ("lc_monetary", "'C.UTF-8'", "C"),
        ("array_nulls", "off", "on"),
        ("xmloption", "'document'", "content"),
        ("quote_all_identifiers", "on", "off"),
        ("idle_session_timeout", "'1h'", "0"),
    ];
    for (name, value, _) in settings {
        cluster
            .sql("postgres", &format!("ALTER ROLE anna SET {name} = {value}"))
            .unwrap();
    }
    for (name, _, pinned) in settings {
        let query = format!("SELECT current_setting('{name}')");
        assert_eq!(ask(&url(&cluster, "hunter2", ""), &query).await, pinned, "{name}");
    }
}

#[tokio::test]
async fn the_next_host_is_tried_and_its_kind_is_looked_at() {
    let cluster = cluster(&[], &[]);
    let port = cluster.port();
    let text =
        |kind: &str| format!("postgresql://postgres@127.0.0.1:1,127.0.0.1:{port}/postgres?target_session_attrs={kind}");
    assert_eq!(
        ask(&text("read-write"), "SELECT pg_is_in_recovery()::text").await,
        "false"
    );
    assert_eq!(
        ask(&text("prefer-standby"), "SELECT pg_is_in_recovery()::text").await,
        "false"
    );
    assert_eq!(refused(&text("standby")).await.failure().reason, Reason::SessionKind);
}

/// A CA, another one that nobody knows, and a server's certificate for `localhost`.
struct Certificates {
    folder: TempDir,
}

impl Certificates {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let made = Self { folder };
        for ca in ["ca", "stranger"] {
            made.openssl(&format!(
                "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={ca} -keyout {ca}.key -out {ca}.pem"
            ));
        }
        made.openssl("req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr");
        std::fs::write(
            made.path("extensions"),
            "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n",
        )
        .unwrap();
        made.openssl("x509 -req -days 2 -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile extensions -out server.pem");
        // Self-signed, as the server's documentation shows it; and one of version 1.
        made.openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout self.key -out self.pem");
        made.openssl("x509 -req -days 2 -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out old.pem");
        made
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn settings(&self, certificate: &str, key: &str) -> Vec<String> {
        own_by_server(Path::new(&self.path(key)));
        vec![
            "ssl=on".into(),
            format!("ssl_cert_file='{}'", self.path(certificate)),
            format!("ssl_key_file='{}'", self.path(key)),
        ]
    }
}

/// A server reads no key that others own; root's tests run it as `postgres`.
fn own_by_server(key: &Path) {
    let id = |arguments: &[&str]| {
        let output = Command::new("id").args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse::<u32>().unwrap()
    };
    std::fs::set_permissions(key, PermissionsExt::from_mode(0o600)).unwrap();
    if id(&["-u"]) == 0 {
        chown(key, Some(id(&["-u", "postgres"])), Some(id(&["-g", "postgres"]))).unwrap();
    }
}

const IS_TLS: &str = "SELECT ssl::text FROM pg_catalog.pg_stat_ssl WHERE pid = pg_backend_pid()";

#[tokio::test]
async fn s10_tls_is_checked_as_far_as_the_mode_says() {
    let made = Certificates::make();
    let hba = ["hostssl all anna all scram-sha-256", "host all all all reject"];
    let options = ClusterOptions {
        settings: made.settings("server.pem", "server.key"),
        hba: vec!["host all postgres all trust".into(), hba[0].into(), hba[1].into()],
    };
    let cluster = Cluster::start_with(&options).unwrap();
    cluster
        .sql("postgres", "CREATE ROLE anna LOGIN REPLICATION PASSWORD 'hunter2'")
        .unwrap();
    let (ca, stranger) = (made.path("ca.pem"), made.path("stranger.pem"));
    let text = |host: &str, rest: &str| {
        let port = cluster.port();
        format!("host={host} hostaddr=127.0.0.1 port={port} user=anna password=hunter2 dbname=postgres {rest}")
    };
    for rest in ["", "sslmode=require", "sslmode=require channel_binding=require"] {
        assert_eq!(ask(&text("other.example", rest), IS_TLS).await, "true", "{rest}");
    }
    let full = format!("sslmode=verify-full sslrootcert={ca}");
    assert_eq!(
        ask(&text("localhost", &format!("{full} channel_binding=require")), IS_TLS).await,
        "true"
    );
    assert_eq!(
        ask(
            &text("other.example", &format!("sslmode=verify-ca sslrootcert={ca}")),
            IS_TLS
        )
        .await,
        "true"
    );

    let wrong_name = refused(&text("other.example", &full)).await;
    assert!(wrong_name.to_string().contains("another name"), "{wrong_name}");
    for root in [stranger.as_str(), "system"] {
        let unknown = refused(&text("localhost", &format!("sslmode=verify-full sslrootcert={root}"))).await;
        assert!(
            unknown.to_string().contains("not signed by a CA that is trusted"),
            "{unknown}"
        );
        assert!(!unknown.is_transient());
        assert_eq!(Problem::from(unknown).code, "E0252");
    }
    // A root given with `require` is used, as libpq does.
    let required = refused(&text("localhost", &format!("sslmode=require sslrootcert={stranger}"))).await;
    assert_eq!(required.failure().reason, Reason::Tls);
    let no_file = refused(&text("localhost", "sslmode=verify-ca sslrootcert=/nowhere.pem")).await;
    assert!(no_file.to_string().contains("sslrootcert /nowhere.pem"), "{no_file}");
    // pg_hba.conf lets nobody in without TLS.
    assert_eq!(
        refused(&text("localhost", "sslmode=disable")).await.sqlstate(),
        Some("28000")
    );
}

#[tokio::test]
async fn self_made_and_old_certificates_work_as_with_libpq() {
    let made = Certificates::make();
    for (certificate, key, rest) in [
        (
            "self.pem",
            "self.key",
            format!("sslmode=verify-full sslrootcert={}", made.path("self.pem")),
        ),
        (
            "old.pem",
            "server.key",
            "sslmode=require channel_binding=require".to_owned(),
        ),
    ] {
        let cluster = cluster(
            &["hostssl all anna all scram-sha-256"],
            &made.settings(certificate, key),
        );
        let text = format!(
            "host=localhost port={} user=anna password=hunter2 dbname=postgres {rest}",
            cluster.port()
        );
        assert_eq!(ask(&text, IS_TLS).await, "true", "{certificate}");
    }
}

#[tokio::test]
async fn s9_without_tls_nothing_but_the_question_is_sent() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (mut peer, _) = listener.accept().await.unwrap();
        let mut request = [0; 8];
        peer.read_exact(&mut request).await.unwrap();
        peer.write_all(b"N").await.unwrap();
        let mut rest = Vec::new();
        let _ = peer.read_to_end(&mut rest).await;
        rest
    });
    let text = format!("host=127.0.0.1 port={port} user=anna password=hunter2 sslmode=require");
    let error = sql::connect(&Conninfo::parse(&text).unwrap(), "rowmill test")
        .await
        .err()
        .unwrap();
    assert_eq!(error.failure().reason, Reason::NoTls);
    assert!(!error.is_transient());
    assert!(Problem::from(error).help.contains("`ssl = on`"));
    assert_eq!(server.await.unwrap(), b"");
}

/// Lines of COPY frames, which must be whole.
fn lines(mut frames: &[u8]) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    while let Some((head, rest)) = frames.split_first_chunk::<5>() {
        assert_eq!(head[0], b'd');
        let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4;
        lines.push(rest[..length].to_vec());
        frames = &rest[length..];
    }
    assert!(frames.is_empty());
    lines
}

#[tokio::test]
async fn a_copy_comes_in_whole_frames_between_the_statements_around_it() {
    let cluster = Cluster::start().unwrap();
    let socket = format!(
        "postgresql:///postgres?host={}&port={}&user=postgres",
        cluster.socket_dir().display(),
        cluster.port()
    );
    for url in [cluster.url("postgres"), socket] {
        let mut reader = Reader::connect(&Conninfo::parse(&url).unwrap(), "rowmill test")
            .await
            .unwrap();
        // The longest row doesn't fit into a buffer, and neither do all the others together.
        let sql = "BEGIN; SELECT 'before'; COPY (SELECT n, CASE n WHEN 777 THEN repeat('x', 3000000) END
            FROM generate_series(1, 100000) n) TO STDOUT; COMMIT; SELECT 'behind'";
        for _ in 0..2 {
            let (rows, mut frames) = reader.copy_out(sql).await.unwrap();
            assert_eq!(rows, [[Some("before".to_owned())]]);
            let (mut number, mut hand_outs) = (0, 0);
            while let Some(bytes) = frames.next().await.unwrap() {
                hand_outs += 1;
                for line in lines(&bytes) {
                    number += 1;
                    assert!(line.starts_with(format!("{number}\t").as_bytes()));
                    assert_eq!(line.len() > 3_000_000, number == 777);
                }
            }
            assert_eq!(number, 100_000);
            assert!((2..50).contains(&hand_outs), "{hand_outs}");
            assert_eq!(frames.next().await, Ok(None));
        }
        assert_eq!(reader.rows("SELECT 1").await.unwrap(), [[Some("1".to_owned())]]);
    }
}

#[tokio::test]
async fn what_breaks_a_copy_is_told_behind_the_rows_before_it() {
    let cluster = Cluster::start().unwrap();
    let conninfo = Conninfo::parse(&cluster.url("postgres")).unwrap();
    let mut reader = Reader::connect(&conninfo, "rowmill test").await.unwrap();
    let missing = reader.copy_out("COPY nothing TO STDOUT").await.err().unwrap();
    assert_eq!(missing.sqlstate, "42P01");
    let mut reader = Reader::connect(&conninfo, "rowmill test").await.unwrap();
    let sql = "COPY (SELECT 1 / (n - 5000) FROM generate_series(1, 9000) n) TO STDOUT";
    let (_, mut frames) = reader.copy_out(sql).await.unwrap();
    let mut number = 0;
    let error = loop {
        match frames.next().await {
            Ok(bytes) => number += lines(&bytes.unwrap()).len(),
            Err(error) => break error,
        }
    };
    assert_eq!((number, error.sqlstate.as_str()), (4999, "22012"));
}

#[test]
fn a_server_without_room_is_tried_again_and_one_that_is_set_up_wrong_is_not() {
    let of = |sqlstate: &str| QueryError {
        sqlstate: sqlstate.to_owned(),
        ..QueryError::protocol("said so")
    };
    // disk_full, out_of_memory, io_error, too_many_connections, admin_shutdown
    for sqlstate in ["53100", "53200", "58030", "53300", "57P01"] {
        assert!(of(sqlstate).is_transient(), "{sqlstate}");
    }
    // configuration_limit_exceeded, undefined_file, database_dropped, undefined_object
    for sqlstate in ["53400", "58P01", "57P04", "42704"] {
        assert!(!of(sqlstate).is_transient(), "{sqlstate}");
    }
}
