use super::*;
use serde_json::json;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

struct Fixed(bool);

/// Takes until it is told to go on.
struct Slow(Mutex<std::sync::mpsc::Receiver<()>>);

impl Status for Slow {
    fn ready(&self) -> Readiness {
        Fixed(true).ready()
    }

    fn status(&self) -> serde_json::Value {
        Fixed(true).status()
    }

    fn roll_back(&self, plugin: &str) -> Result<serde_json::Value, Box<Problem>> {
        let _ = self.0.lock().expect("nobody panics with it").recv();
        Ok(json!({ "plugin": plugin }))
    }

    fn pause_copies(&self, _: &str, _: bool) -> Option<serde_json::Value> {
        None
    }

    fn reload(&self, _: &str) -> Option<Result<serde_json::Value, Vec<Problem>>> {
        None
    }

    fn resync(&self, _: &str, _: &str) -> Option<Result<serde_json::Value, Box<Problem>>> {
        None
    }

    fn dead_letters(
        &self,
        _: &str,
        _: Action,
        _: &Selection,
        _: bool,
    ) -> Option<Result<serde_json::Value, Box<Problem>>> {
        None
    }
}

impl Status for Fixed {
    fn ready(&self) -> Readiness {
        Readiness {
            ready: self.0,
            reason: "waiting for the server".to_owned(),
        }
    }

    fn roll_back(&self, plugin: &str) -> Result<serde_json::Value, Box<Problem>> {
        Ok(json!({ "plugin": plugin }))
    }

    fn status(&self) -> serde_json::Value {
        json!({ "pipelines": [{ "name": "shop" }] })
    }

    fn pause_copies(&self, pipeline: &str, paused: bool) -> Option<serde_json::Value> {
        (pipeline == "shop").then(|| serde_json::json!({ "paused": paused }))
    }

    fn reload(&self, _: &str) -> Option<Result<serde_json::Value, Vec<crate::problem::Problem>>> {
        None
    }

    fn resync(&self, _: &str, _: &str) -> Option<Result<serde_json::Value, Box<crate::problem::Problem>>> {
        None
    }

    fn dead_letters(
        &self,
        pipeline: &str,
        action: Action,
        selection: &Selection,
        force: bool,
    ) -> Option<Result<serde_json::Value, Box<Problem>>> {
        (pipeline == "shop").then(|| Ok(json!({ action.name(): format!("{selection:?} {force}") })))
    }
}

async fn start(ready: bool) -> (SocketAddr, Tail, oneshot::Sender<()>) {
    let console = Console::bind(([127, 0, 0, 1], 0).into()).await.expect("a free port");
    let address = console.address();
    let tail = Tail::new();
    let (stop, stopped) = oneshot::channel();
    let stopped = async move {
        let _ = stopped.await;
    };
    tokio::spawn(console.serve(Arc::new(Fixed(ready)), Arc::new(Registry::new()), tail.clone(), stopped));
    (address, tail, stop)
}

/// Sends a request and reads the answer to its end.
async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    answer
}

async fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")).await
}

#[tokio::test]
async fn each_path_answers() {
    let (address, _tail, _stop) = start(true).await;
    assert!(get(address, "/healthz").await.ends_with("alive\n"));
    assert!(get(address, "/readyz").await.starts_with("HTTP/1.0 200"));
    assert!(get(address, "/metrics").await.ends_with("# EOF\n"));
    let status = get(address, "/api/status").await;
    assert!(status.ends_with(r#"{"pipelines":[{"name":"shop"}]}"#), "{status}");
    assert!(!status.to_lowercase().contains("access-control"), "{status}");
    assert!(get(address, "/nothing").await.starts_with("HTTP/1.0 404"));
}

#[tokio::test]
async fn without_progress_it_is_alive_but_not_ready() {
    let (address, _tail, _stop) = start(false).await;
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.0 200"));
    let answer = get(address, "/readyz").await;
    assert!(
        answer.starts_with("HTTP/1.0 503") && answer.ends_with("waiting for the server\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn x3_x4_foreign_hosts_and_bodies_are_refused() {
    let (address, _tail, _stop) = start(true).await;
    for host in [
        "Host: evil.example",
        "Host: 127.0.0.1.evil.example",
        "X: y",
        "Host: 10.0.0.1:7070",
    ] {
        let answer = ask(address, &format!("GET /api/status HTTP/1.0\r\n{host}\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.0 403"), "{host}: {answer}");
    }
    for host in ["localhost:7070", "[::1]:7070", "127.0.0.9"] {
        let answer = ask(address, &format!("GET /healthz HTTP/1.0\r\nHost: {host}\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.0 200"), "{host}: {answer}");
    }
    let huge = "POST /api/status HTTP/1.0\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n";
    assert!(ask(address, huge).await.starts_with("HTTP/1.0 413"));
    let post = "POST /api/status HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    assert!(ask(address, post).await.starts_with("HTTP/1.0 405"));
}

#[tokio::test]
async fn rows_are_shown_while_somebody_looks() {
    let (address, tail, stop) = start(true).await;
    assert!(!tail.is_watched());
    let request = format!("GET /api/tail HTTP/1.0\r\nHost: {address}\r\nAccept: text/event-stream\r\n\r\n");
    let view = tokio::spawn(async move { ask(address, &request).await });
    while !tail.is_watched() {
        tokio::task::yield_now().await;
    }
    tail.show(r#"{"op":"insert"}"#.into());
    // What was shown before the end of the process is still seen.
    while !view.is_finished() && !tail.sender.is_empty() {
        tokio::task::yield_now().await;
    }
    stop.send(()).expect("it runs");
    let seen = view.await.expect("it ends");
    assert!(seen.ends_with("data: {\"op\":\"insert\"}\n\n"), "{seen}");
    while tail.is_watched() {
        tokio::task::yield_now().await;
    }
}

/// Connects, sends what is no whole request, and waits until it is let go.
async fn let_go(address: SocketAddr, sent: &str) {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(sent.as_bytes()).await.expect("it reads");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
}

#[tokio::test]
async fn who_doesnt_finish_a_request_is_let_go_and_one_that_is_worked_on_stays() {
    let mut console = Console::bind(([127, 0, 0, 1], 0).into()).await.expect("a free port");
    // Long enough that a busy machine reads the whole request within it.
    console.silence = Duration::from_secs(1);
    let address = console.address();
    let (go_on, told) = std::sync::mpsc::channel();
    let status = Arc::new(Slow(Mutex::new(told)));
    let served = console.serve(status, Arc::new(Registry::new()), Tail::new(), std::future::pending());
    tokio::spawn(served);
    let post = format!(
        "POST /api/plugins/mask/rollback HTTP/1.0\r\nHost: {address}\r\nX-Rowmill: 1\r\nContent-Length: 2\r\n\r\n"
    );
    let whole = format!("{post}{{}}");
    let asked = tokio::spawn(async move { ask(address, &whole).await });
    // Each begins behind the request, or behind the one before.
    for part in ["", "POST /api/plugins", &post, &format!("{post}{{")] {
        let_go(address, part).await;
    }
    assert!(!asked.is_finished());
    go_on.send(()).expect("it waits");
    let answer = asked.await.expect("it ends");
    assert!(answer.ends_with(r#"{"plugin":"mask"}"#), "{answer}");
}

#[tokio::test]
async fn h14_a_port_that_is_taken_is_told() {
    let first = Console::bind(([127, 0, 0, 1], 0).into()).await.expect("a free port");
    let Err(problem) = Console::bind(first.address()).await else {
        panic!("the port is taken")
    };
    assert_eq!(problem.code, "E0910");
    assert!(problem.cause.is_some());
}

#[tokio::test]
async fn a_plugin_goes_back_for_programs_and_for_no_other_site() {
    let (address, _tail, _stop) = start(true).await;
    let post = |headers: &str| {
        format!("POST /api/plugins/mask/rollback HTTP/1.0\r\nHost: {address}\r\n{headers}Content-Length: 0\r\n\r\n")
    };
    let answer = ask(address, &post("X-Rowmill: 1\r\n")).await;
    assert!(answer.ends_with(r#"{"plugin":"mask"}"#), "{answer}");
    for foreign in ["", "X-Rowmill: 1\r\nOrigin: http://evil.example\r\n"] {
        let answer = ask(address, &post(foreign)).await;
        assert!(answer.starts_with("HTTP/1.0 403"), "{answer}");
    }
}

#[tokio::test]
async fn letters_are_dropped_by_programs_and_by_no_other_site() {
    let (address, _tail, _stop) = start(true).await;
    let post = |pipeline: &str, action: &str, headers: &str, body: &str| {
        let length = body.len();
        format!(
            "POST /api/pipelines/{pipeline}/dead-letters/{action} HTTP/1.0\r\nHost: {address}\r\n{headers}\
             Content-Length: {length}\r\n\r\n{body}"
        )
    };
    let own = "X-Rowmill: 1\r\n";
    let answer = ask(address, &post("shop", "drop", own, r#"{"letters":[3]}"#)).await;
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    assert!(answer.ends_with(r#"{"drop":"Numbers([3]) false"}"#), "{answer}");
    let same = format!("{own}Origin: http://{address}\r\nSec-Fetch-Site: same-origin\r\n");
    let answer = ask(address, &post("shop", "replay", &same, r#"{"all":true,"force":true}"#)).await;
    assert!(answer.ends_with(r#"{"replay":"All true"}"#), "{answer}");
    for foreign in [
        "",
        "X-Rowmill: 1\r\nOrigin: http://evil.example\r\n",
        "X-Rowmill: 1\r\nOrigin: null\r\n",
        "X-Rowmill: 1\r\nSec-Fetch-Site: cross-site\r\n",
    ] {
        let answer = ask(address, &post("shop", "drop", foreign, r#"{"all":true}"#)).await;
        assert!(answer.starts_with("HTTP/1.0 403"), "{foreign}: {answer}");
    }
    for (pipeline, action, body, code) in [
        ("other", "drop", r#"{"all":true}"#, 404),
        ("shop", "burn", r#"{"all":true}"#, 404),
        ("shop", "drop", "{}", 400),
        ("shop", "drop", r#"{"all":true,"table":"a.b"}"#, 400),
        ("shop", "drop", r#"{"everything":true}"#, 400),
        ("shop", "drop", "", 400),
    ] {
        let answer = ask(address, &post(pipeline, action, own, body)).await;
        assert!(answer.starts_with(&format!("HTTP/1.0 {code}")), "{body}: {answer}");
    }
    assert!(
        get(address, "/api/pipelines/shop/dead-letters/drop")
            .await
            .starts_with("HTTP/1.0 405")
    );
}
