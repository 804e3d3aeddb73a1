//! What can be wrong with a plugin.

use crate::problem::Code;

/// Every code with what it means, for docs/reference/errors.md.
pub const CODES: &[Code] = &[
    Code {
        code: "E0301",
        title: "the module can't be read",
        explanation: "The file is no WebAssembly core module, is larger than `limits.module`, or its manifest is \
                      damaged. `rowmill plugin build` makes one that is right.",
    },
    Code {
        code: "E0302",
        title: "built for another version of the plugin ABI",
        explanation: "Each major version of the ABI is a contract of its own. Build the plugin with the SDK that \
                      belongs to this Rowmill; docs/reference/plugin-abi.md lists the versions.",
    },
    Code {
        code: "E0303",
        title: "exports are missing",
        explanation: "A plugin exports `memory`, `rowmill_abi`, `rowmill_alloc`, `rowmill_free`, `rowmill_init`, \
                      `rowmill_schema` and `rowmill_batch`. All that are missing or of another type are named.",
    },
    Code {
        code: "E0304",
        title: "it imports what isn't offered",
        explanation: "Plugins have no files, no network, no clock of the host's. What may be imported is listed in \
                      docs/reference/plugin-abi.md; the import that isn't is named.",
    },
    Code {
        code: "E0305",
        title: "the module doesn't compile",
        explanation: "The code is not valid, uses a proposal that is switched off, or takes more time to compile than \
                      `limits.compile_time`: CPU time of the compiler, or ten times that by the wall clock.",
    },
    Code {
        code: "E0306",
        title: "the plugin doesn't start",
        explanation: "It refused its configuration. The cause is the plugin's own text.",
    },
    Code {
        code: "E0307",
        title: "the plugin can't work on a table",
        explanation: "It refused the table, mostly as a column that it needs is missing, or declared writes that \
                      can't be. The headline names plugin and table, the cause is the plugin's own text.",
    },
    Code {
        code: "E0308",
        title: "the plugin asks for something that this version lacks",
        explanation: "The ABI knows it and this version of Rowmill does not do it yet.",
    },
    Code {
        code: "E0309",
        title: "the plugin's configuration doesn't fit its schema",
        explanation: "The plugin brings a JSON Schema along for what stands under `config:`. Each place that doesn't \
                      fit is named by its path, with what was expected and the kind of what was found; values are \
                      not shown. Values with a variable are texts.",
    },
    Code {
        code: "E0310",
        title: "the plugin broke while it ran",
        explanation: "It trapped, ran into a limit of time or memory, or gave a reply that breaks the contract, at its \
                      start or later. The cause names the export that was being called. With `on_fault: stop` that ends \
                      the pipeline, and so does a plugin that breaks before it gets rows. Nothing of the batch has \
                      left, so after a fix the rows are sent through again.",
    },
    Code {
        code: "E0311",
        title: "a row of which the plugin makes nothing",
        explanation: "The plugin refused one row, or a value that it wrote does not fit its column. The row is named \
                      by its id, its values are not shown.",
    },
    Code {
        code: "E0312",
        title: "the plugin asked to stop",
        explanation: "A plugin may stop the pipeline where going on would be wrong. The cause is its own text.",
    },
    Code {
        code: "E0313",
        title: "the plugin breaks too often",
        explanation: "Each change that a plugin breaks on is set aside or passed on, as `on_fault` says, until there \
                      are more than `max_faults` within a minute. Then the plugin is taken to be broken as a whole. \
                      Nothing of the batch has left; the cause shows the last fault.",
    },
    Code {
        code: "E0314",
        title: "what the plugin breaks on can't be found",
        explanation: "Where a plugin breaks on a batch, its rows are tried in ever smaller parts until the one that \
                      is to blame is found. `limits.isolation` bounds the time for that. Nothing of the batch has \
                      left. A plugin that exports `rowmill_row` names the row at once.",
    },
    Code {
        code: "E0316",
        title: "a plugin makes too many rows of a batch",
        explanation: "Where a plugin makes several rows of one, all that it makes of a batch are bounded by its \
                      `limits: rows`: they are held in memory until the sinks have them. Nothing of the batch has left, \
                      and no row is set aside for it: none is to blame alone.",
    },
    Code {
        code: "E0317",
        title: "a plugin can't take up its state",
        explanation: "A plugin's state is stored with the version of the module that gave it. A module takes state of \
                      its own version, state of an older one where it exports rowmill_migrate, and none of a newer \
                      one. The state stays as it is.",
    },
    Code {
        code: "E0319",
        title: "the WebAssembly engine can't be set up",
        explanation: "The machine can't run the engine, or the folder for compiled code is not this user's alone.",
    },
    Code {
        code: "E0315",
        title: "changes may go by a plugin",
        explanation: "`on_error: pass` and `on_fault: bypass` let a change go on without the plugin that didn't take \
                      it: unfiltered, unmasked. A plugin that guards data must never be passed by. A warning: it \
                      stops nothing.",
    },
    Code {
        code: "E0320",
        title: "there is no module",
        explanation: "The file that `plugins.NAME.module` names is not there. Relative paths start at the folder of \
                      pipeline.yaml.",
    },
    Code {
        code: "E0321",
        title: "the module lies outside of its folder",
        explanation: "Links are followed, and where they lead must lie below the folder that modules may come from.",
    },
    Code {
        code: "E0322",
        title: "the module is too large",
        explanation: "`limits.module` bounds the bytes of a module; 16 MiB unless given.",
    },
    Code {
        code: "E0323",
        title: "the module's file can't be read",
        explanation: "It is a folder, a device or a pipe, or this user may not read it.",
    },
    Code {
        code: "E0324",
        title: "others may write to the module",
        explanation: "Whoever may write to a plugin's module, or replace it in its folder, decides what the rows become \
                      and sees them all. Both must belong to the user that Rowmill runs as or to root, and nobody else \
                      may write to them; a group may where it is the process's own.",
    },
];
