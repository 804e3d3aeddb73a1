//! What a plugin's author needs: `rowmill plugin new`, `build`, `test`, `bench`, `inspect`, `record` and `conform`.

pub mod build;
mod codes;
pub mod inspect;
pub mod new;
pub(crate) mod database;
pub mod subject;
pub mod test;

pub use codes::CODES;
