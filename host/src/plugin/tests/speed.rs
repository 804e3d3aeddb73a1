//! What the host itself costs per row. Not a benchmark: a figure to look at while working on this folder.
//! `cargo test --release -p rowmill -- --ignored --nocapture plugin::tests::speed`

use super::*;
use std::time::Instant;

const ROWS: usize = 1_000;
const ROUNDS: usize = 2_000;

#[test]
#[ignore = "a measurement"]
fn filter_and_patch() {
    let columns: Vec<(String, u32, bool)> = (0..7)
        .map(|at| (format!("c{at}"), if at == 0 { INT4 } else { TEXT }, at == 0))
        .collect();
    let columns: Vec<_> = columns
        .iter()
        .map(|(name, oid, key)| (name.as_str(), *oid, *key))
        .collect();
    let relation = table(&columns);
    let verdict = arr(&[i(0), bin(&[0xff; ROWS / 8]), nil()]);
    let patches: Vec<_> = (0..ROWS as i64)
        .map(|image| patch(image, 2, s("a***@example.org")))
        .collect();
    let versions = [
        filter(wishes(&[1], &[], None), verdict).version("filter").unwrap(),
        transform(wishes(&[2], &[2], None), actions(&patches))
            .version("mask")
            .unwrap(),
    ];
    let mut chain = Chain::new(&ENGINE, &versions, FilterMode::Membership, Mode::Live).unwrap();
    let mut batch = batch(&relation);
    let values: &[&str] = &[
        "12345",
        "paid",
        "alice@example.org",
        "2024-01-01",
        "12.50",
        "x",
        "some longer text",
    ];
    let all: Vec<Row> = (0..ROWS)
        .map(|_| row(&mut batch, Op::Insert, None, Some(values)))
        .collect();
    let (cells, arena) = (batch.cells.len(), batch.arena.len());
    let mut rows = Vec::new();
    let mut least = u128::MAX;
    for _ in 0..ROUNDS {
        batch.cells.truncate(cells);
        batch.arena.truncate(arena);
        rows.clear();
        rows.extend_from_slice(&all);
        let started = Instant::now();
        chain.process(&mut batch, &mut rows, &mut Processed::default()).unwrap();
        least = least.min(started.elapsed().as_nanos());
        assert_eq!(rows.len(), ROWS);
    }
    // The best round, since the others say more of the machine's load.
    println!(
        "filter and mask, host alone: {:.1} ns per row",
        least as f64 / ROWS as f64
    );
}

/// A module of 1 MB whose code is in the cache, by what is done with it. That it is quick is asserted in `load.rs`.
/// `cargo test --release -p rowmill -- --ignored --nocapture parts_of_loading`
#[test]
#[ignore = "a measurement"]
fn parts_of_loading_a_cached_module() {
    let bytes = rowmill_tests::large_tagger(1, 0).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let roomy = Limits {
        module: ByteSize(8 << 20),
        ..limits()
    };
    let engine = Engine::new(Some(folder.path().join("code"))).unwrap();
    let started = Instant::now();
    engine.load(&bytes, &roomy).unwrap();
    let compiled = started.elapsed();
    let mut times: Vec<_> = (0..50)
        .map(|_| {
            let started = Instant::now();
            drop(engine.load(&bytes, &roomy).unwrap());
            started.elapsed()
        })
        .collect();
    times.sort();
    let part = |name: &str, work: &dyn Fn()| {
        let least = (0..20).map(|_| {
            let started = Instant::now();
            work();
            started.elapsed()
        });
        println!("{name}: {:?}", least.min().unwrap());
    };
    let cache = crate::plugin::code_cache::CodeCache::open(&folder.path().join("parts"), 1).unwrap();
    let module = wasmtime::Module::new(engine.wasmtime(), &bytes).unwrap();
    cache.put("a", &module.serialize().unwrap()).unwrap();
    part("hash of the module", &|| {
        std::hint::black_box(<sha2::Sha256 as sha2::Digest>::digest(&bytes));
    });
    part("sections", &|| {
        drop(crate::plugin::module_file::ModuleFile::parse(&bytes).unwrap())
    });
    part("checksum of the code", &|| drop(cache.get("a").unwrap()));
    part("mapping", &|| {
        #[allow(unsafe_code, reason = "code that was compiled above")]
        let module = unsafe { wasmtime::Module::deserialize_open_file(engine.wasmtime(), cache.get("a").unwrap()) };
        drop(module.unwrap());
    });
    let code = std::fs::read_dir(folder.path().join("code")).unwrap().next().unwrap();
    let code = code.unwrap().metadata().unwrap().len();
    println!(
        "{} bytes, {code} bytes of code: compiled in {compiled:?}; loaded in {:?} (median), {:?} (best)",
        bytes.len(),
        times[25],
        times[0]
    );
}
