use super::*;
use clap::CommandFactory;
use std::sync::{Arc, Mutex};

#[test]
fn the_arguments_are_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn run_takes_the_file_of_this_folder() {
    let cli = Cli::try_parse_from(["rowmill", "run"]).expect("it needs nothing");
    let Verb::Run(args) = cli.verb else {
        panic!("another verb")
    };
    assert_eq!(args.files, [std::path::PathBuf::from("pipeline.yaml")]);
}

#[test]
fn the_version_names_the_engine() {
    let error = Cli::try_parse_from(["rowmill", "--version"]).expect_err("it is no verb");
    assert!(error.to_string().contains("wasmtime 48"), "{error}");
    assert_eq!(error.exit_code(), 0);
}

struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_output_is_a_quiet_end() {
    let output = Output::new(Format::Text, Box::new(Closed));
    assert!(matches!(schema::run(output), Err(Failure::OutputClosed)));
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panicked").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn status_asks_a_running_console() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(1)
        .build();
    let runtime = runtime.expect("a runtime");
    let console = runtime.block_on(crate::console::Console::bind(([127, 0, 0, 1], 0).into()));
    let console = console.expect("a free port");
    let address = console.address();
    let args = client::Args { console: address };
    let stop = std::future::pending();
    runtime.spawn(console.serve(Arc::new(Told), Arc::default(), crate::console::Tail::new(), stop));
    let written = Shared::default();
    let output = Output::new(Format::Json, Box::new(written.clone()));
    assert!(matches!(status::run(&args, output), Ok(DONE)));
    let text = String::from_utf8(written.0.lock().expect("nobody panicked").clone()).expect("it is text");
    assert_eq!(text, "{\"name\":\"shop\"}\n");
}

struct Told;

impl crate::console::Status for Told {
    fn roll_back(&self, plugin: &str) -> Result<serde_json::Value, Box<crate::problem::Problem>> {
        Ok(serde_json::json!({ "plugin": plugin, "running": "aabbccddeeff" }))
    }

    fn ready(&self) -> crate::console::Readiness {
        crate::console::Readiness {
            ready: true,
            reason: "streaming".to_owned(),
        }
    }

    fn status(&self) -> serde_json::Value {
        serde_json::json!({ "name": "shop" })
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
        _: &str,
        _: crate::dead_letter::Action,
        _: &crate::dead_letter::Selection,
        _: bool,
    ) -> Option<Result<serde_json::Value, Box<Problem>>> {
        None
    }
}

#[test]
fn without_a_host_the_fix_is_told() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let console = listener.local_addr().expect("it has one");
    drop(listener);
    let outcome = status::run(
        &client::Args { console },
        Output::new(Format::Text, Box::new(io::sink())),
    );
    let Err(Failure::Problems(problems)) = outcome else {
        panic!("nobody is there")
    };
    assert_eq!(problems[0].code, "E0904");
}
