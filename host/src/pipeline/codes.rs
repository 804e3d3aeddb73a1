//! What can be wrong with a route.

use crate::problem::Code;

/// Every code with what it means, for docs/reference/errors.md.
pub const CODES: &[Code] = &[
    Code {
        code: "E0701",
        title: "a table has a new column",
        explanation: "The route says `on_new_column: stop`, so somebody has to decide whether the column may leave.",
    },
    Code {
        code: "E0702",
        title: "a listed column isn't in the table",
        explanation: "`columns` names what may leave. A name that isn't there is mostly a typing error, which would \
                      otherwise go unnoticed.",
    },
    Code {
        code: "E0703",
        title: "the route leaves out a part of the key",
        explanation: "Rows are known by their key at the sinks, so all of it has to leave.",
    },
    Code {
        code: "E0704",
        title: "the route's columns can't be remembered",
        explanation: "Which columns a table had when a route first met it is kept in the state, which could not be \
                      written.",
    },
    Code {
        code: "E0705",
        title: "a thread for the plugins can't be started",
        explanation: "Each lane of `lanes` is a thread. The user or the machine has as many as it may have.",
    },
    Code {
        code: "E0706",
        title: "a table has other columns",
        explanation: "The route says `on_schema_change: stop`. Nothing of the transaction in which the columns changed \
                      has left by this route; the cause says what is different. With `evolve` the change is taken up, \
                      and from then on the route may say `stop` again.",
    },
    Code {
        code: "E0707",
        title: "a table has a name that no route takes",
        explanation: "It was renamed, and would go nowhere without a word. While the pipeline runs, a route with \
                      `on_schema_change: stop` stops before the first change under the new name; any other goes on under \
                      the old one and says so, until another table has it: both would meet in one. A start asks for the new name. Changes from before the rename arrive \
                      under it, too.",
    },
];
