//! Whoever writes a row can't hide a part of it from a plugin: what isn't read as it stands there is an error.

mod array;
mod json;
mod output;
mod value;
