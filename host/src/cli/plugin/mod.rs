//! What a plugin's author needs: `rowmill plugin new` and `rowmill plugin build`.

pub mod build;
mod codes;
pub mod new;

pub use codes::CODES;
