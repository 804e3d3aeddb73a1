//! What is refused before a row is seen.

use super::*;

fn refusal(wat: &str) -> String {
    let bytes = wat::parse_str(wat).unwrap();
    text_of(&ENGINE.load(&bytes, &limits()).unwrap_err())
}

fn good() -> Guest {
    filter(wishes(&[0], &[], None), arr(&[i(0), yes(true), nil()]))
}

#[test]
fn p8_all_missing_exports_are_listed() {
    let text = refusal(r#"(module (memory (export "rowmill_batch") 1) (func (export "rowmill_abi")))"#);
    for name in [
        "rowmill_alloc",
        "rowmill_free",
        "rowmill_init",
        "rowmill_schema",
        "rowmill_batch",
        "memory",
    ] {
        assert!(text.contains(name), "{text}");
    }
    assert!(text.starts_with("error[E0303]"), "{text}");
}

#[test]
fn exports_of_another_type_are_listed() {
    let wat = good().wat().replace(
        "(func (export \"rowmill_free\") (param i32 i32))",
        "(func (export \"rowmill_free\"))",
    );
    let text = refusal(&wat);
    assert!(
        text.contains("E0303") && text.contains("rowmill_free") && !text.contains("rowmill_init"),
        "{text}"
    );
}

#[test]
fn p9_foreign_imports_are_named() {
    for (import, named) in [
        (r#"(import "env" "evil" (func))"#, "env.evil"),
        (r#"(import "rowmill" "secrets" (func))"#, "rowmill.secrets"),
        (
            r#"(import "wasi_snapshot_preview1" "fork" (func))"#,
            "wasi_snapshot_preview1.fork",
        ),
        (r#"(import "env" "memory2" (global i32))"#, "env.memory2"),
        (r#"(import "rowmill" "log" (func))"#, "another type"),
        (r#"(import "rowmill" "kv_get" (func))"#, "which it may not use"),
    ] {
        let text = refusal(
            &Guest {
                imports: import,
                ..good()
            }
            .wat(),
        );
        assert!(text.contains(named), "{text}");
    }
}

#[test]
fn files_of_wasi_are_imported_but_never_work() {
    let open = r#"(import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))"#;
    // Traps unless the answer is ENOSYS.
    let body = "(if (i32.ne (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
        (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0)) (i32.const 52)) (then (unreachable))) (i64.const 0)";
    let guest = Guest {
        imports: open,
        body: Some(body),
        ..good()
    };
    let mut chain = guest.chain().unwrap();
    let mut batch = batch(&people());
    let mut rows = vec![row(&mut batch, Op::Insert, None, Some(&["1", "a"]))];
    let text = text_of(
        &chain
            .process(&mut batch, &mut rows, &mut Processed::default())
            .unwrap_err(),
    );
    assert!(text.contains("answered nothing"), "{text}");
}

#[test]
fn p7_another_abi_is_refused() {
    let text = text_of(
        &Guest {
            abi: 99 << 16,
            ..good()
        }
        .chain()
        .unwrap_err(),
    );
    assert!(
        text.contains("E0302") && text.contains("ABI 99.0") && text.contains("1.0"),
        "{text}"
    );
}

#[test]
fn what_is_no_module_is_refused() {
    for (bytes, named) in [
        (&b"ELF"[..], "no WebAssembly"),
        (b"\0asm\x0d\0\x01\0", "component"),
        (b"\0asm\x01\0\0\0\x02\xff\xff\xff\xff\x0f", "cut off"),
        (b"\0asm\x01\0\0\0\x01", "cut off"),
    ] {
        let text = text_of(&ENGINE.load(bytes, &limits()).unwrap_err());
        assert!(text.contains("E0301") && text.contains(named), "{text}");
    }
    let small = Limits {
        module: ByteSize(4),
        ..limits()
    };
    assert!(text_of(&ENGINE.load(b"\0asm\x01\0\0\0", &small).unwrap_err()).contains("at most 4"));
}

#[test]
fn code_that_is_not_valid_does_not_compile() {
    let bytes = wat::parse_str(
        good()
            .wat()
            .replace("(result i32) (i32.const 65536)", "(result i32) (i64.const 1)"),
    );
    let text = text_of(&ENGINE.load(&bytes.unwrap(), &limits()).unwrap_err());
    assert!(text.contains("E0305"), "{text}");
}

#[test]
fn a_refused_configuration_carries_the_reason() {
    let init = arr(&[i(2), s("no such column")]);
    let text = text_of(&Guest { init, ..good() }.chain().unwrap_err());
    assert!(text.contains("E0306") && text.contains("no such column"), "{text}");
}

#[test]
fn refused_tables_carry_the_reason() {
    for (schema, named) in [
        (arr(&[i(0), i(3), s("no column status")]), "no column status"),
        (arr(&[i(0), i(0), nil(), nil(), i(1), nil()]), "REPLICA IDENTITY FULL"),
        (wishes(&[0], &[1], None), "is a filter"),
    ] {
        let mut chain = Guest { schema, ..good() }.chain().unwrap();
        let text = text_of(&chain.relation(&people()).unwrap_err());
        assert!(text.contains("E0307") && text.contains(named), "{text}");
    }
}

#[test]
fn compiled_code_is_kept_in_a_private_folder() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("code");
    let bytes = wat::parse_str(good().wat()).unwrap();
    let first = Engine::new(Some(cache.clone()))
        .unwrap()
        .load(&bytes, &limits())
        .unwrap();
    let mode = std::fs::metadata(&cache).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let kept: Vec<_> = std::fs::read_dir(&cache)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(kept.len(), 1);
    assert!(kept[0].to_str().unwrap().contains(first.hash_hex()));
    // Taken from the cache: no time to compile is needed.
    let hurried = Limits {
        compile_time: Duration(std::time::Duration::ZERO),
        ..limits()
    };
    Engine::new(Some(cache.clone()))
        .unwrap()
        .load(&bytes, &hurried)
        .unwrap();
    // Damaged: compiled again.
    let mut code = std::fs::read(&kept[0]).unwrap();
    *code.last_mut().unwrap() ^= 1;
    std::fs::write(&kept[0], code).unwrap();
    Engine::new(Some(cache)).unwrap().load(&bytes, &limits()).unwrap();
}

/// How long the best of some loads may take; without optimisation our own part of it takes several times as long.
const LOADED_IN: std::time::Duration = match cfg!(debug_assertions) {
    true => std::time::Duration::from_millis(100),
    false => std::time::Duration::from_millis(2),
};
/// Compiling takes so many times as long as loading, at the least.
const COMPILING_LONGER: u32 = 5;

/// What a start, or a swap to a version that has run before, waits for: read, checked, mapped, linked. The release's
/// figure is one of `cargo xtask bench plugin`.
#[test]
fn a_cached_module_of_1_mb_is_loaded_at_once() {
    let bytes = rowmill_tests::large_tagger(1, 0).unwrap();
    assert!((1 << 20..2 << 20).contains(&bytes.len()), "{}", bytes.len());
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::new(Some(folder.path().join("code"))).unwrap();
    let roomy = Limits {
        module: ByteSize(8 << 20),
        ..limits()
    };
    let timed = || {
        let started = std::time::Instant::now();
        drop(engine.load(&bytes, &roomy).unwrap());
        started.elapsed()
    };
    let compiled = timed();
    // The least: the others say more of what else the machine does.
    let loaded = (0..20).map(|_| timed()).min().unwrap();
    println!("compiled in {compiled:?}, loaded in {loaded:?}");
    assert!(loaded < LOADED_IN, "loaded in {loaded:?}");
    assert!(
        loaded * COMPILING_LONGER < compiled,
        "loaded in {loaded:?}, compiled in {compiled:?}"
    );
}

#[test]
fn a_config_that_does_not_fit_the_schema_is_refused() {
    let schema = r#"{"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}}"#;
    let guest = Guest {
        config_schema: Some(schema),
        ..good()
    };
    let text = text_of(&guest.chain().unwrap_err());
    for part in ["E0309", "config.a[1]", "expected a whole number, found a text"] {
        assert!(text.contains(part), "{text}");
    }
    let guest = Guest {
        config_schema: Some("{"),
        ..good()
    };
    assert!(text_of(&guest.chain().unwrap_err()).contains("is no JSON"));
}

#[test]
fn the_row_at_work_is_a_number() {
    let guest = Guest {
        row: r#"(global (export "rowmill_row") i64 (i64.const 0))"#,
        ..good()
    };
    assert!(refusal(&guest.wat()).contains("rowmill_row"));
}
