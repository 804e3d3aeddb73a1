#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rowmill::fuzzing::run("binary_value", bytes));
