//! Bemi's own client packages, which write context on the source of a test: `tests/bemi`.

use crate::run::{answers, command, root, run};

/// From npm, at the versions of package-lock.json (32 packages, 50 MB, five seconds), without their install scripts, which
/// would download engines that the test has no use for. Says so and goes on where that can't be.
pub fn client() {
    if !answers("node", &["--version"]) || !answers("npm", &["--version"]) {
        println!("skipped: tests/bemi needs Node.js and npm");
        return;
    }
    let folder = root().join("tests/bemi");
    let changed = |name: &str| {
        let file = std::fs::metadata(folder.join(name));
        file.and_then(|file| file.modified()).ok()
    };
    // Made last, so that it tells whether all of it was done.
    if changed("node_modules/.prisma/client/index.js") > changed("package-lock.json") {
        return;
    }
    println!("Bemi's client is missing: installing it from npm");
    let flags = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    let mut npm = command("npm", &flags);
    let mut generate = command("node", &["node_modules/prisma/build/index.js", "generate"]);
    // With engines named it doesn't look for others: the client that is generated has none.
    for engine in ["PRISMA_SCHEMA_ENGINE_BINARY", "PRISMA_QUERY_ENGINE_LIBRARY"] {
        generate.env(engine, "/bin/true");
    }
    generate.args(["--schema", "schema.prisma"]);
    for step in [&mut npm, &mut generate] {
        if let Err(cause) = run(step.current_dir(&folder)) {
            println!("skipped: tests/bemi, {cause:#}");
            return;
        }
    }
}

/// The one for SQLAlchemy from PyPI, at the versions of requirements.txt, in an environment of its own. Says so and goes on
/// where that can't be.
pub fn sqlalchemy() {
    let folder = root().join("tests/bemi");
    // Written last, so that it tells whether all of it was done.
    let done = folder.join("venv/done");
    if done.exists() {
        return;
    }
    println!("Bemi's client for SQLAlchemy is missing: installing it from PyPI");
    let mut make = command("python3", &["-m", "venv", "venv"]);
    let mut install = command("venv/bin/pip", &["install", "--quiet", "-r", "requirements.txt"]);
    let mut note = command("touch", &["venv/done"]);
    for step in [&mut make, &mut install, &mut note] {
        if let Err(cause) = run(step.current_dir(&folder)) {
            println!("skipped: tests/bemi with SQLAlchemy, {cause:#}");
            return;
        }
    }
}
