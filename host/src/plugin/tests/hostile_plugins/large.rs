//! Modules whose size is the attack. They are made here; what is refused is refused before the compiler sees it.

use super::*;
use crate::plugin::compile_work::{BLOCKS_MAX, LOOPS_MAX};
use crate::plugin::module_file::{
    EXPORTS_MAX, FUNCTION_BYTES_MAX, FUNCTIONS_MAX, IMPORTS_MAX, MANIFEST_BYTES_MAX, NAME_BYTES_MAX,
};

/// For tests of what the size of the file alone doesn't refuse.
fn roomy() -> Limits {
    Limits {
        module: ByteSize(200 << 20),
        ..limits()
    }
}

fn honest() -> Vec<u8> {
    wat::parse_str(with_fields("")).unwrap()
}

fn with(fields: &str) -> Vec<u8> {
    wat::parse_str(with_fields(fields)).unwrap()
}

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// The module with a custom section behind it.
fn with_section(mut module: Vec<u8>, name: &str, body: &[u8]) -> Vec<u8> {
    let body = [leb(name.len()), name.as_bytes().to_vec(), body.to_vec()].concat();
    module.push(0);
    module.extend(leb(body.len()));
    module.extend(body);
    module
}

fn is_too_much(bytes: &[u8], told: &str) {
    let problem = refusal(bytes, &roomy());
    let cause = problem.cause.unwrap_or_default();
    assert_eq!(problem.code, "E0301", "{cause}");
    assert!(cause.contains(told), "{cause}");
}

/// Compiled within its time, whatever comes of it, and what comes of it is an instance or a problem.
fn compiles_or_is_refused(bytes: &[u8]) {
    let started = Instant::now();
    match ENGINE.load(bytes, &roomy()) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.problem().code, "E0305"),
    }
    let limit = roomy().compile_time.0;
    assert!(started.elapsed() < limit, "{:?}", started.elapsed());
    others_go_on();
}

#[test]
fn a_module_of_100_mb() {
    let module = with_section(honest(), "ballast", &vec![0; 100 << 20]);
    let problem = refusal(&module, &limits());
    assert_eq!(problem.code, "E0301");
    assert!(problem.headline.contains("at most 1048576 are allowed"));
    // Where its size is allowed, ballast costs its reading.
    let started = Instant::now();
    ENGINE.load(&module, &roomy()).unwrap();
    assert!(started.elapsed() < TOLD_WITHIN, "{:?}", started.elapsed());
}

#[test]
fn ten_thousand_functions() {
    let bytes = with(&"(func (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))\n".repeat(10_000));
    let started = Instant::now();
    behaves(&bytes);
    println!("10,000 functions: {:?}", started.elapsed());
}

#[test]
fn too_many_functions() {
    is_too_much(&with(&"(func)\n".repeat(FUNCTIONS_MAX + 1)), "functions: 5");
}

#[test]
fn a_function_too_large() {
    let body = "nop ".repeat(FUNCTION_BYTES_MAX);
    is_too_much(&with(&format!("(func {body})")), "bytes of one function");
}

#[test]
fn more_locals_than_there_may_be() {
    let bytes = with(&format!("(func (local{}))", " i64".repeat(50_001)));
    is_refused(&bytes, "E0305", "too many locals");
}

#[test]
fn many_locals_in_a_large_function() {
    let body = "block end ".repeat(20_000);
    let bytes = with(&format!("(func (local{}) {body})", " i64".repeat(49_000)));
    is_too_much(&bytes, "locals of one function times its bytes");
}

fn nested(block: &str, depth: usize) -> String {
    format!("(func {}{})", block.repeat(depth), "end ".repeat(depth))
}

#[test]
fn deeply_nested_blocks() {
    let bytes = with(&nested("block ", BLOCKS_MAX as usize + 1));
    is_too_much(&bytes, "blocks of one function: 20001");
    compiles_or_is_refused(&with(&nested("block ", 5_000)));
}

#[test]
fn blocks_in_a_row() {
    let bytes = with(&format!("(func {})", "block end ".repeat(150_000)));
    is_too_much(&bytes, "blocks of one function: 150000");
}

#[test]
fn deeply_nested_loops() {
    let bytes = with(&nested("loop ", LOOPS_MAX as usize + 1));
    is_too_much(&bytes, "loops of one function: 2001");
    compiles_or_is_refused(&with(&nested("loop ", 500)));
}

#[test]
fn many_functions_of_many_blocks() {
    let bytes = with(&nested("block ", BLOCKS_MAX as usize).repeat(6));
    is_too_much(&bytes, "squares of the blocks of its functions");
}

#[test]
fn a_deep_stack_of_values() {
    let body = "i32.const 1 ".repeat(100_000) + &"i32.add ".repeat(99_999) + "drop";
    compiles_or_is_refused(&with(&format!("(func {body})")));
}

#[test]
fn a_giant_branch_table() {
    let table = format!("(br_table{} (i32.const 0))", " 0".repeat(60_000));
    compiles_or_is_refused(&with(&format!("(func {})", table.repeat(4))));
}

#[test]
fn a_giant_data_segment() {
    let data = "x".repeat(900 * 1024);
    let fields = format!("(memory (export \"memory\") 20) (data (i32.const 65536) \"{data}\")");
    behaves(&with(&fields));
}

#[test]
fn many_data_segments() {
    let bytes = with(&"(data (i32.const 0) \"x\")".repeat(50_000));
    compiles_or_is_refused(&bytes);
}

#[test]
fn too_many_exports() {
    let exports: String = (0..=EXPORTS_MAX).fold(String::new(), |mut text, at| {
        write!(text, "(export \"e{at}\" (global $heap))").unwrap();
        text
    });
    is_too_much(&with(&exports), "exports: 10");
}

#[test]
fn too_many_imports() {
    let import = "(import \"rowmill\" \"log\" (func (param i32 i32 i32)))";
    is_too_much(&with(&import.repeat(IMPORTS_MAX + 1)), "imports: 1001");
    behaves(&with(&import.repeat(IMPORTS_MAX)));
}

#[test]
fn a_name_too_long() {
    let name = "n".repeat(NAME_BYTES_MAX + 1);
    is_too_much(
        &with(&format!("(import \"env\" \"{name}\" (func))")),
        "bytes of the name",
    );
    is_too_much(&with(&format!("(func (export \"{name}\"))")), "bytes of the name");
}

#[test]
fn a_manifest_too_large() {
    let module = with_section(honest(), "rowmill.plugin", &vec![0x80; MANIFEST_BYTES_MAX + 1]);
    is_too_much(&module, "bytes of its section `rowmill.plugin`");
}

#[test]
fn a_manifest_that_lies() {
    let deep = [vec![0x81, 0xa1, b'x'], vec![0x91; 100_000]].concat();
    for manifest in [&[0xdf, 0xff, 0xff, 0xff, 0xff][..], &[0x81], &[0xc0], &[], &deep] {
        let problem = refusal(&with_section(honest(), "rowmill.plugin", manifest), &roomy());
        assert_eq!(problem.code, "E0301");
        assert!(problem.headline.contains("`rowmill.plugin` can't be read"));
    }
}

/// Names and lines are looked up when it traps, by readers that must not trust them.
#[test]
fn garbage_for_debuggers() {
    let mut bytes = module("reaches_unreachable");
    let mut state = 1u32;
    let mut garbage = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let sections = [
        ".debug_info",
        ".debug_abbrev",
        ".debug_line",
        ".debug_str",
        ".debug_ranges",
        ".debug_aranges",
        "name",
    ];
    for section in sections {
        let body: Vec<u8> = (0..4096).map(|_| garbage()).collect();
        bytes = with_section(bytes, section, &body);
    }
    breaks_at_a_row(&bytes, FaultKind::Trap, "`unreachable`");
}

/// The backtrace of a deep stack of functions with long names, escape sequences among them.
#[test]
fn names_as_long_as_novels() {
    let name = "\\1b[31m".repeat(10_000);
    let fields = format!(
        "(func $evil (@name \"{name}\") (param $ptr i32) (param $len i32) (result i64)
            (if (i32.eqz (local.get $len)) (then (unreachable)))
            (i64.add (call $evil (local.get $ptr) (i32.sub (local.get $len) (i32.const 1))) (i64.const 1)))"
    );
    let fault = breaks_at_a_row(&with(&fields), FaultKind::Trap, "`unreachable`");
    let backtrace = fault.backtrace.unwrap();
    assert!(backtrace.len() < 20 * 1024 && backtrace.contains("\\u{1b}[31m"));
}

/// A compiler can't be stopped. The one that is given up ends by itself, and who comes meanwhile is told.
#[test]
fn p15_a_module_that_compiles_too_long() {
    let bytes = with(&"(func (param i32) (result i32) (i32.add (local.get 0) (i32.const 2)))\n".repeat(20_000));
    let engine = Engine::new(None).unwrap();
    let hurried = Limits {
        compile_time: Duration(Time::from_millis(20)),
        ..roomy()
    };
    let text = text_of(&engine.load(&bytes, &hurried).unwrap_err());
    assert!(
        text.contains("E0305") && text.contains("didn't compile within 20ms"),
        "{text}"
    );
    let text = text_of(&engine.load(&bytes, &hurried).unwrap_err());
    assert!(
        text.contains("E0305") && text.contains("another one still compiles"),
        "{text}"
    );
    // The other one takes its time where the compiler itself wasn't optimised.
    let patient = Limits {
        compile_time: Duration(Time::from_secs(300)),
        ..limits()
    };
    engine.load(&honest(), &patient).unwrap();
}

/// What the compiler needs for the worst that the limits let through. Not a benchmark: figures to set limits by.
/// `cargo nextest run -p rowmill --run-ignored all --no-capture compile_bombs`
#[test]
#[ignore = "a measurement"]
fn compile_bombs() {
    let blocks = |locals: usize, bytes: usize| {
        let gets: String = (0..locals).fold(String::new(), |mut text, at| {
            write!(text, "(drop (local.get {at}))").unwrap();
            text
        });
        format!(
            "(func (local{}) {} {gets})",
            " i64".repeat(locals),
            "block end ".repeat(bytes / 3)
        )
    };
    let loops = |locals: usize, bytes: usize| blocks(locals, bytes).replace("block end", "loop end");
    for (name, fields) in [
        ("nested blocks", nested("block ", 20_000)),
        ("blocks in a row", blocks(0, 60_000)),
        ("4,000 locals, blocks in a row", blocks(4_000, 60_000)),
        ("nested loops", nested("loop ", 2_000)),
        ("loops in a row", loops(0, 6_000)),
        ("40,000 locals, loops in a row", loops(40_000, 6_000)),
    ] {
        let bytes = with(&fields);
        let started = Instant::now();
        let long = Limits {
            compile_time: Duration(Time::from_secs(100)),
            ..roomy()
        };
        let loaded = ENGINE.load(&bytes, &long);
        println!("{name}: {:?}, {}, {}", started.elapsed(), peak(), loaded.is_ok());
    }
}

fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap()
        .to_owned()
}
