//! What this binary is made of.

/// Rowmill's own version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The WebAssembly engine: its version decides which advisories apply.
pub const WASM_ENGINE: &str = "wasmtime 48.0.8";

/// What `rowmill --version` prints behind the name.
pub fn version_text() -> String {
    format!("{VERSION} ({WASM_ENGINE})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_the_one_that_is_locked() {
        let lock = include_str!("../../../Cargo.lock");
        let (name, version) = WASM_ENGINE.split_once(' ').expect("name and version");
        let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        assert!(lock.contains(&entry), "Cargo.lock has another {name}");
    }
}
