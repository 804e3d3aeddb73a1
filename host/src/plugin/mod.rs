//! Plugins: WebAssembly modules that rows go through on their way to the sinks.

pub mod reload;
