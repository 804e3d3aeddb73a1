//! What of the pipeline follows from the seed.

use super::schedule::stirred;

/// How the pipeline of a seed receives, as far as its server can. Transactions are prepared either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Receiving {
    pub two_phase: bool,
    pub streamed: bool,
    pub binary: bool,
}

impl Receiving {
    pub fn of(seed: u64) -> Self {
        let mut random = stirred(seed.wrapping_mul(1_000_033));
        let mut either = || random.below(2) == 0;
        Self {
            two_phase: either(),
            streamed: either(),
            binary: either(),
        }
    }

    /// Without what a server of this major version can't do.
    pub fn at(self, version: u32) -> Self {
        Self {
            two_phase: self.two_phase && version >= 15,
            streamed: self.streamed && version >= 14,
            binary: self.binary && version >= 14,
        }
    }

    /// Lines of pipeline.yaml.
    pub fn lines(self) -> String {
        let Self {
            two_phase,
            streamed,
            binary,
        } = self;
        format!("    two_phase: {two_phase}\n    stream_transactions: {streamed}\n    binary: {binary}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn seeds_receive_in_every_way() {
        assert_eq!(Receiving::of(5), Receiving::of(5));
        let ways: BTreeSet<Receiving> = (1..=32).map(Receiving::of).collect();
        assert_eq!(ways.len(), 8, "{ways:?}");
        assert!(ways.iter().all(|way| !way.at(14).two_phase && !way.at(13).streamed));
    }
}
