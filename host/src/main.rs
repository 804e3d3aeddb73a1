fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let once = args.iter().any(|a| a == "--once");
    let file = args
        .iter()
        .skip(1)
        .find(|a| !a.starts_with('-'))
        .cloned()
        .unwrap_or("pipeline.yaml".into());
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or("info".into()))
        .init();
    let config = match rowmill::config::load(std::path::Path::new(&file)) {
        Ok(c) => c,
        Err(ps) => {
            for p in ps {
                eprintln!("{p:?}")
            }
            std::process::exit(2)
        }
    };
    let rt = tokio::runtime::Runtime::new().unwrap();
    let r = rt.block_on(async {
        let stop = rowmill::runtime::StopRequest::on_signals().unwrap();
        match rowmill::runtime::run(config, rowmill::runtime::RunOptions { once }, stop) {
            Ok(r) => r.ended().await,
            Err(e) => Err(e),
        }
    });
    match r {
        Ok(rowmill::runtime::Ended::Done) => {}
        Ok(rowmill::runtime::Ended::Interrupted(n)) => std::process::exit(128 + n),
        Err(p) => {
            eprintln!("{p:?}");
            std::process::exit(p.exit as i32)
        }
    }
}
