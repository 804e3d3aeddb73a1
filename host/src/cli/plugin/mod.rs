//! What a plugin's author needs: `rowmill plugin new` and `rowmill plugin build`.

pub mod build;
pub mod new;
