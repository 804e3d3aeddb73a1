//! `rowmill plugin`: the arguments; what they do stands in `plugin/`.

mod bench;
mod record;
mod tools;

use super::output::Failure;
use super::plugin::{build, new};
use super::{DONE, Outcome, Output, client, codes, plugin_list};
use crate::plugin_tools::record::ROWS_MAX;
use crate::problem::{Exit, Problem};
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// A crate for a plugin, ready to build.
    New(New),
    /// Build a plugin's crate to a module.
    Build(Build),
    /// Run golden samples through the module, under several cuts; exit code 5 where the output isn't the expected one.
    Test(Test),
    /// What a row of the samples costs, and where: encoding, call, check and application.
    Bench(Bench),
    /// What a module says of itself, and what it wants of tables.
    Inspect(Inspect),
    /// Golden samples from a live database; of columns that aren't named nothing leaves it.
    Record(Record),
    /// The plugin ABI's own tests, for a module in any language; exit code 5 where one fails.
    Conform(Conform),
    /// The versions of a running host's plugins: running, on probation, refused and why.
    List(client::Args),
    /// Go back to the version before.
    Rollback(plugin_list::Rollback),
}

#[derive(Debug, clap::Args)]
pub struct Test {
    /// The module, or its crate, which is built first.
    #[arg(default_value = ".", value_name = "MODULE")]
    pub path: PathBuf,
    /// The folder of samples; `NAME.samples` beside the module or in the crate otherwise.
    #[arg(long, value_name = "FOLDER")]
    pub samples: Option<PathBuf>,
    /// The plugin's configuration, as JSON.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Write what comes out as what is expected.
    #[arg(long)]
    pub bless: bool,
}

#[derive(Debug, clap::Args)]
pub struct Bench {
    /// The module, or its crate, which is built first.
    #[arg(default_value = ".", value_name = "MODULE")]
    pub path: PathBuf,
    /// The folder of samples; `NAME.samples` beside the module or in the crate otherwise.
    #[arg(long, value_name = "FOLDER")]
    pub samples: Option<PathBuf>,
    /// The plugin's configuration, as JSON.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Changes of a batch: the samples are repeated until there are so many.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rows: u32,
}

#[derive(Debug, clap::Args)]
pub struct Inspect {
    /// The module, or its crate, which is built first.
    #[arg(default_value = ".", value_name = "MODULE")]
    pub path: PathBuf,
    /// Tables to show it: a file of samples, or of its tables' lines alone.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["url", "pipeline"])]
    pub schema: Option<PathBuf>,
    /// The plugin's configuration, as JSON: tables are shown to a started plugin.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Show only these tables of the database: schema.table, `*` for any characters. All of them otherwise, or those of
    /// the pipeline.
    #[arg(long = "table", value_name = "TABLE", requires = "database")]
    pub tables: Vec<String>,
}

/// A live database.
#[derive(Debug, clap::Args)]
#[group(id = "database", multiple = false)]
pub struct DatabaseArgs {
    /// A database, as libpq takes it; a password is better left to PGPASSWORD or ~/.pgpass.
    #[arg(long)]
    pub url: Option<String>,
    /// The source of a pipeline, with the plugin's configuration there.
    #[arg(long, value_name = "FILE")]
    pub pipeline: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub struct Record {
    /// The table: schema.table.
    pub table: String,
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// A column whose values may leave the database; of all others there is a stand-in of their type.
    #[arg(long, value_name = "COLUMN")]
    pub keep: Vec<String>,
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=i64::from(ROWS_MAX)))]
    pub rows: u32,
    /// Only rows for which this holds, in SQL.
    #[arg(long, value_name = "CONDITION")]
    pub r#where: Option<String>,
    /// A new file, e.g. NAME.samples/orders.jsonl; standard output otherwise.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub struct Conform {
    /// The module, or its crate, which is built first.
    #[arg(default_value = ".", value_name = "MODULE")]
    pub path: PathBuf,
    /// Samples of tables that the plugin is made for, in addition to the suite's own.
    #[arg(long, value_name = "FOLDER")]
    pub samples: Option<PathBuf>,
    /// The plugin's configuration, as JSON.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The version before, of a plugin with state: what it has kept is to be taken up.
    #[arg(long, value_name = "MODULE")]
    pub previous: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub struct New {
    /// The folder to make; its name is the plugin's.
    pub path: PathBuf,
    #[arg(long, value_enum, default_value_t = Kind::Filter)]
    pub kind: Kind,
    /// The folder `plugin-sdk` of a checkout; the one that this program was built with, or the published one, otherwise.
    #[arg(long, value_name = "PATH")]
    pub sdk: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Keeps rows or drops them.
    Filter,
    /// Changes rows.
    Transform,
}

#[derive(Debug, clap::Args)]
pub struct Build {
    /// The plugin's folder.
    #[arg(default_value = ".")]
    pub path: PathBuf,
    /// Where the module goes.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

pub(super) fn run(verb: Verb, output: Output) -> Outcome {
    match verb {
        Verb::New(args) => make(&args, output),
        Verb::Build(args) => build(&args, output),
        Verb::Test(args) => tools::test(&args, output),
        Verb::Bench(args) => bench::bench(&args, output),
        Verb::Inspect(args) => tools::inspect(&args, output),
        Verb::Record(args) => record::record(&args, output),
        Verb::Conform(args) => tools::conform(&args, output),
        Verb::List(args) => plugin_list::list(&args, output),
        Verb::Rollback(args) => plugin_list::roll_back(&args, output),
    }
}

fn make(args: &New, mut output: Output) -> Outcome {
    let kind = match args.kind {
        Kind::Filter => new::Kind::Filter,
        Kind::Transform => new::Kind::Transform,
    };
    let created = new::new(&args.path, kind, args.sdk.as_deref()).map_err(failure)?;
    let sdk = match &created.sdk {
        new::Sdk::Path(path) => path.display().to_string(),
        new::Sdk::Version(version) => (*version).to_owned(),
    };
    let folder = created.folder.display().to_string();
    let value = json!({ "name": created.name, "folder": folder, "files": created.files, "sdk": sdk });
    output.value(&value, |_| {
        let mut lines: Vec<String> = created.files.iter().map(|file| format!("{folder}/{file}")).collect();
        lines.push(format!(
            "with the SDK {sdk}; next: `cargo test` there, then `rowmill plugin build {folder}`"
        ));
        lines.join("\n")
    })?;
    Ok(DONE)
}

fn build(args: &Build, mut output: Output) -> Outcome {
    let built = build::build(&args.path, args.out.as_deref()).map_err(failure)?;
    let path = built.path.display().to_string();
    let value = json!({ "module": path, "size_bytes": built.size_bytes });
    let beyond = match built.size_bytes > build::SIZE_MAX_BYTES {
        true => format!(", more than the {} that a plugin should need", build::SIZE_MAX_BYTES),
        false => String::new(),
    };
    output.value(&value, |_| format!("{path}: {} bytes{beyond}", built.size_bytes))?;
    Ok(DONE)
}

/// What isn't put into words where it happened is a file or folder that can't be used.
pub(super) fn failure(error: anyhow::Error) -> Failure {
    match error.downcast::<Problem>() {
        Ok(problem) => problem.into(),
        Err(error) => {
            let help = "make it a folder that this user can write to";
            let headline = "a file of the plugin can't be read or written";
            let problem = Problem::new(codes::PLUGIN_FILES.code, Exit::Usage, headline, help);
            problem.with_cause(format!("{error:#}")).into()
        }
    }
}
