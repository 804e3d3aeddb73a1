//! Modules that are never taken up.

use super::*;

macro_rules! refused {
    ($($name:ident: $code:literal, $told:literal;)*) => {$(
        #[test]
        fn $name() {
            is_refused(&module(stringify!($name)), $code, $told);
        }
    )*};
}

refused! {
    imports_a_function: "E0304", "env.system";
    imports_a_global: "E0304", "env.base";
    imports_a_table: "E0304", "env.table";
    imports_a_memory: "E0304", "env.memory";
    imports_another_type: "E0304", "another type";
    imports_wasi_with_another_type: "E0304", "path_open";
    two_memories: "E0305", "multiple memories";
    shared_memory: "E0305", "threads";
    exports_twice: "E0305", "duplicate export";
}

#[test]
fn foreign_import() {
    let bytes = wat::parse_str(read("foreign_import.wat")).unwrap();
    is_refused(&bytes, "E0304", "env.open_file");
}

macro_rules! another_abi {
    ($($name:ident: $found:literal;)*) => {$(
        #[test]
        fn $name() {
            let text = text_of(&chain(&module(stringify!($name))).unwrap_err());
            assert!(text.contains("E0302") && text.contains(concat!("ABI ", $found)), "{text}");
            others_go_on();
        }
    )*};
}

another_abi! {
    another_major: "2.0";
    newer_minor: "1.9";
    negative_abi: "65535.65535";
}

macro_rules! lacks {
    ($($name:ident: $export:literal;)*) => {$(
        #[test]
        fn $name() {
            let wat = with_fields("").replace(concat!("(export \"", $export, "\")"), "");
            is_refused(&wat::parse_str(wat).unwrap(), "E0303", concat!("lacks exports: ", $export));
        }
    )*};
}

lacks! {
    lacks_memory: "memory";
    lacks_abi: "rowmill_abi";
    lacks_alloc: "rowmill_alloc";
    lacks_free: "rowmill_free";
    lacks_init: "rowmill_init";
    lacks_schema: "rowmill_schema";
    lacks_batch: "rowmill_batch";
}

macro_rules! of_another_type {
    ($($name:ident: $export:literal;)*) => {$(
        #[test]
        fn $name() {
            let field = concat!("(func (export \"", $export, "\") (param f32))");
            let bytes = wat::parse_str(with_fields(field)).unwrap();
            is_refused(&bytes, "E0303", concat!("other types: ", $export));
        }
    )*};
}

of_another_type! {
    abi_of_another_type: "rowmill_abi";
    alloc_of_another_type: "rowmill_alloc";
    free_of_another_type: "rowmill_free";
    init_of_another_type: "rowmill_init";
    schema_of_another_type: "rowmill_schema";
    batch_of_another_type: "rowmill_batch";
    checkpoint_of_another_type: "rowmill_checkpoint";
    migrate_of_another_type: "rowmill_migrate";
    initialize_of_another_type: "_initialize";
    row_of_another_type: "rowmill_row";
}

#[test]
fn memory_that_is_a_global() {
    let wat = with_fields("(global (export \"memory\") i32 (i32.const 0)) (memory 2)");
    is_refused(&wat::parse_str(wat).unwrap(), "E0303", "memory");
}

#[test]
fn row_of_64_bits() {
    let wat = with_fields("(global (export \"rowmill_row\") (mut i64) (i64.const 0))");
    is_refused(&wat::parse_str(wat).unwrap(), "E0303", "rowmill_row");
}

#[test]
fn memory_of_64_bits() {
    let wat = with_fields("(memory (export \"memory\") i64 2)");
    is_refused(&wat::parse_str(wat).unwrap(), "E0305", "memory64");
}

#[test]
fn names_with_escape_sequences() {
    let wat = with_fields("(import \"\\1b[31m\" \"\\0a\\0d\" (func))");
    is_refused(&wat::parse_str(wat).unwrap(), "E0304", "\\u{1b}[31m.\\n\\r");
}

#[test]
fn no_webassembly_at_all() {
    is_refused(b"#!/bin/sh\nrm -rf /\n", "E0301", "no WebAssembly");
    is_refused(b"", "E0301", "no WebAssembly");
}

#[test]
fn a_component() {
    is_refused(b"\0asm\x0d\0\x01\0", "E0301", "component");
}
