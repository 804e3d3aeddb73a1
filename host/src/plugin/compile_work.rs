//! What the compiler will have to do for a module, estimated before it begins: for one function it grows with the square
//! of its blocks, nested or not, and it can't be stopped.
//!
//! Measured on a busy machine: a function of 10,000 nested blocks 1.5 s, one of 2,500 nested loops 3.7 s, of 10,000 of
//! them 51 s, and one of 166,000 blocks in a row more than 100 s. So a loop counts for eight blocks. Compilers make a
//! block for each arm of a `match`; Go's makes one for each call of a function.

use super::module_file::BadModule;
use wasmparser::{Operator, Parser, Payload};

/// Blocks and branches of one function.
pub(crate) const BLOCKS_MAX: u64 = 20_000;
/// Loops of one function.
pub(crate) const LOOPS_MAX: u64 = 2_000;
/// How many blocks a loop counts for.
const LOOP_WEIGHT: u64 = 8;
/// The squares of the blocks of all functions, added up: about what is compiled within the default of 30 s.
pub(crate) const WORK_MAX: u64 = 2_000_000_000;

/// Refuses a module that asks too much of the compiler. What can't be read passes: the compiler says more of it.
pub(crate) fn check(bytes: &[u8]) -> Result<(), BadModule> {
    let mut work = 0u64;
    for payload in Parser::new(0).parse_all(bytes) {
        let body = match payload {
            Ok(Payload::CodeSectionEntry(body)) => body,
            Ok(_) => continue,
            Err(_) => return Ok(()),
        };
        let Ok(mut operators) = body.get_operators_reader() else {
            return Ok(());
        };
        let (mut blocks, mut loops) = (0, 0);
        // An operator that can't be read ends the function for the compiler too, but what comes before counts.
        while let Ok(operator) = operators.read() {
            match operator {
                Operator::Block { .. } | Operator::If { .. } => blocks += 1,
                Operator::Loop { .. } => loops += 1,
                _ => {}
            }
        }
        bounded("blocks of one function", blocks, BLOCKS_MAX)?;
        bounded("loops of one function", loops, LOOPS_MAX)?;
        work += (blocks + loops * LOOP_WEIGHT).pow(2);
        bounded("squares of the blocks of its functions", work, WORK_MAX)?;
    }
    Ok(())
}

fn bounded(what: &'static str, found: u64, limit: u64) -> Result<(), BadModule> {
    if found <= limit {
        return Ok(());
    }
    Err(BadModule::TooMuch { what, found, limit })
}
