//! What can be wrong with pipeline.yaml.

use crate::problem::Code;

pub const CODES: &[Code] = &[
    FILE,
    SYNTAX,
    UNKNOWN_KEY,
    MISSING_KEY,
    WRONG_TYPE,
    TWICE,
    UNKNOWN_NAME,
    VARIABLE,
    RANGE,
    PATH,
    CONTRADICTION,
    SECRET,
];

const fn code(code: &'static str, title: &'static str, explanation: &'static str) -> Code {
    Code {
        code,
        title,
        explanation,
    }
}

pub(super) const FILE: Code = code(
    "E0101",
    "the pipeline's file can't be read",
    "`rowmill run` takes the files that it is given, or `./pipeline.yaml`. The file isn't there, can't be read, isn't \
     UTF-8, or is larger than any pipeline.",
);
pub(super) const SYNTAX: Code = code(
    "E0102",
    "the file isn't YAML",
    "The text can't be read as one YAML document. Often an indent is off by a space, a tab was used, a quote or a \
     bracket is left open, or a value holds `: ` or ` #` and needs quotes.",
);
pub(super) const UNKNOWN_KEY: Code = code(
    "E0103",
    "a key isn't known",
    "No key of that name exists in that block. Keys are never passed over, since a misspelt one would leave its \
     default in force. `rowmill schema` prints every key.",
);
pub(super) const MISSING_KEY: Code = code(
    "E0104",
    "a required key is missing",
    "The block that is shown can't do without that key.",
);
pub(super) const WRONG_TYPE: Code = code(
    "E0105",
    "a value has the wrong type",
    "Something else was expected there: a list instead of one value, a block instead of a text, or the other way \
     round.",
);
pub(super) const TWICE: Code = code(
    "E0106",
    "a key or name stands twice",
    "Two plugins, two sinks or two keys of a block have the same name, so that one would silently win.",
);
pub(super) const UNKNOWN_NAME: Code = code(
    "E0107",
    "a route names something that isn't there",
    "A route names a plugin, a sink or a table that the file doesn't define.",
);
pub(super) const VARIABLE: Code = code(
    "E0108",
    "a variable can't be filled in",
    "A value refers to an environment variable that isn't set, or to a file that can't be read. `${VAR:-default}` has \
     a value for when the variable is unset or empty; `$${` stands for the characters themselves.",
);
pub(super) const RANGE: Code = code(
    "E0109",
    "a value is out of range or not well formed",
    "The value is outside its range, lacks its unit, or isn't written as such values are: durations as `5s`, sizes as \
     `64MiB`, tables as `public.orders`.",
);
pub(super) const PATH: Code = code(
    "E0110",
    "a path leads nowhere, or out of the pipeline's folder",
    "A plugin's module has to be an existing file inside the folder of pipeline.yaml, after symbolic links are \
     followed; relative paths start there.",
);
pub(super) const CONTRADICTION: Code = code(
    "E0111",
    "two settings contradict each other",
    "Both settings are fine alone, but can't hold together; or one counts only with another that the file doesn't have, and \
     would be read by nothing.",
);
pub(super) const SECRET: Code = code(
    "E0112",
    "a secret isn't kept secret",
    "A password stands in the file as plain text, or the file that holds it can be read by everybody on the machine. \
     Take it from a variable, `${DATABASE_URL}`, or from a file with mode 0600, `${file:/etc/rowmill/password}`. What \
     stood in the file should be changed.",
);
