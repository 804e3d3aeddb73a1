//! What can go wrong while a plugin is made or built.

use crate::problem::Code;

pub const CODES: &[Code] = &[
    FOLDER_IN_USE,
    FOLDER_NAME,
    NO_SDK,
    NO_CRATE,
    NO_TARGET,
    BUILD_FAILED,
    NO_MODULE,
    NO_CARGO,
    BAD_CONFIG,
    NO_SAMPLES,
];

const fn code(code: &'static str, title: &'static str, explanation: &'static str) -> Code {
    Code {
        code,
        title,
        explanation,
    }
}

pub(super) const FOLDER_IN_USE: Code = code(
    "E0931",
    "the new plugin's folder holds something already",
    "`rowmill plugin new` lays out a crate in a folder that isn't there yet, or is empty. It never writes over files.",
);
pub(super) const FOLDER_NAME: Code = code(
    "E0932",
    "no plugin can have this name",
    "The folder's name becomes the name of a crate and of a Rust function: a letter first, then letters, digits, `_` \
     and `-`, and no keyword of Rust.",
);
pub(super) const NO_SDK: Code = code(
    "E0933",
    "there is no SDK at the given path",
    "`--sdk` names the folder `plugin-sdk` of a checkout of Rowmill. Without it, the published SDK is used.",
);
pub(super) const NO_CRATE: Code = code(
    "E0941",
    "there is no crate to build",
    "`rowmill plugin build` wants the folder of a plugin's crate, the one with Cargo.toml in it.",
);
pub(super) const NO_TARGET: Code = code(
    "E0942",
    "Rust can't build WebAssembly here",
    "Plugins are built for `wasm32-unknown-unknown`, a target that Rust installs on demand.",
);
pub(super) const BUILD_FAILED: Code = code(
    "E0943",
    "the plugin doesn't build",
    "Cargo ended with an error, which it has printed.",
);
pub(super) const NO_MODULE: Code = code(
    "E0944",
    "the crate makes no WebAssembly module",
    "A plugin's crate is a library of the type `cdylib`, and `rlib` too, so that its tests run natively.",
);
pub(super) const NO_CARGO: Code = code(
    "E0945",
    "Cargo can't be run",
    "Plugins written in Rust are built by Cargo. It is looked for in the variable `CARGO`, then on the path.",
);
pub(super) const BAD_CONFIG: Code = code(
    "E0947",
    "a plugin's configuration can't be read",
    "`--config` of `rowmill plugin test`, `bench`, `inspect` and `conform` names a JSON file with what stands under \
     `config:` in pipeline.yaml.",
);
pub(super) const NO_SAMPLES: Code = code(
    "E0948",
    "there are no samples, or they can't be read",
    "Golden samples are files of JSON lines in the folder `NAME.samples` beside the module or in its crate. The cause \
     names the file and the line.",
);
