//! What this binary is made of.

/// Rowmill's own version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

macro_rules! wasm_engine {
    () => {
        "wasmtime 48.0.8"
    };
}

/// The WebAssembly engine: its version decides which advisories apply.
pub const WASM_ENGINE: &str = wasm_engine!();

/// What `rowmill --version` prints behind the name.
pub const VERSION_TEXT: &str = concat!(env!("CARGO_PKG_VERSION"), " (", wasm_engine!(), ")");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x11_the_engine_is_the_one_that_is_locked() {
        let lock = include_str!("../../../Cargo.lock");
        let (name, version) = WASM_ENGINE.split_once(' ').expect("name and version");
        let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        assert!(lock.contains(&entry), "Cargo.lock has another {name}");
    }
}
