//! `rowmill demo`: a shop that keeps buying, the example pipeline at work on it, and nothing left behind.
//!
//! ```text
//!   load ──> private Postgres: shop ──> the pipeline, as `rowmill run` has it ──> feed, warehouse
//!     │                                     │ live view
//!     └──────────> changes <────────────────┘            page: both sides of each change
//!                                                        verify: warehouse and feed against the shop, at the end
//! ```

mod changes;
mod cluster;
mod codes;
mod load;
mod page;
mod screen;
mod shop;
mod show;
mod summary;
mod swap;
mod verify;
mod view;

pub use codes::CODES;
pub use summary::Summary;

use crate::config::{self, Pipeline, SinkKind};
use crate::problem::Problem;
use cluster::Cluster;
use page::Place;
use std::path::PathBuf;
use swap::{Phase, Swap};

/// How the demo is shown.
#[derive(Clone, Debug)]
pub struct Options {
    pub file: PathBuf,
    /// Until interrupted otherwise.
    pub seconds: Option<u64>,
    /// The summary alone.
    pub quiet: bool,
}

/// Shows the pipeline at work; returns after everything has been taken down. `None` where a second signal has cut it
/// short.
///
/// # Errors
/// What is wrong with the pipeline's file, with the machine, or with what came out at the end.
pub fn run(options: &Options) -> Result<Option<Summary>, Vec<Problem>> {
    let one = |problem| vec![problem];
    let cluster = Cluster::prepare().map_err(one)?;
    let mut pipeline = load_pipeline(&cluster, options)?;
    let place = redirect(&mut pipeline, &cluster, options.seconds);
    let swap = Swap::prepare(&mut pipeline, cluster.folder()).map_err(one)?;
    if !options.quiet {
        println!("starting a private Postgres in {}", cluster.folder().display());
    }
    cluster.start().map_err(one)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| one(codes::server(format!("the runtime: {error}"))))?;
    let place = Place {
        swaps: swap.is_some(),
        ..place
    };
    let shown = runtime.block_on(show::show(&cluster, pipeline, swap, place, options));
    // What still runs would only fail once the server is gone.
    runtime.shutdown_background();
    shown.map_err(one)
}

fn load_pipeline(cluster: &Cluster, options: &Options) -> Result<Pipeline, Vec<Problem>> {
    let (shop, warehouse) = (cluster.url(shop::SHOP), cluster.url(shop::WAREHOUSE));
    config::load_with(&options.file, &|name| match name {
        "DATABASE_URL" => Some(shop.clone()),
        "WAREHOUSE_URL" => Some(warehouse.clone()),
        "MASK_SALT" => Some("of the demo".to_owned()),
        other => std::env::var(other).ok(),
    })
}

/// State and output go to the demo's folder, not to the user's.
fn redirect(pipeline: &mut Pipeline, cluster: &Cluster, seconds: Option<u64>) -> Place {
    let out = cluster.folder().join("out");
    let mut feed = out.clone();
    for sink in &mut pipeline.sinks {
        if let SinkKind::File(file) = &mut sink.kind {
            file.path = out.join(file.path.file_name().unwrap_or(sink.name.as_ref()));
            feed.clone_from(&file.path);
        }
    }
    pipeline.state_dir = cluster.folder().join("state");
    let absolute = |plugin: &config::Plugin| std::path::absolute(&plugin.module).unwrap_or(plugin.module.clone());
    Place {
        seconds,
        feed,
        sockets: cluster.socket_folder(),
        console: None,
        watched: pipeline.plugins.iter().map(absolute).collect(),
        phase: Phase::First,
        swaps: false,
    }
}
