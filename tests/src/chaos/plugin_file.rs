//! The file of the plugin under test: put in place as careful tools do, and as nobody should.

use super::stage::{ABI, Stage, TAG};
use crate::{tag, tagger, trapping_tagger};
use anyhow::{Context, Result};
use std::path::PathBuf;

impl Stage {
    fn module(&self) -> PathBuf {
        self.folder.path().join("tagger.wasm")
    }

    /// Whole, by a rename.
    pub(super) fn install(&self, module: &[u8]) -> Result<()> {
        let fresh = self.folder.path().join("tagger.wasm.new");
        std::fs::write(&fresh, module)?;
        Ok(std::fs::rename(&fresh, self.module())?)
    }

    /// The next good version; returns what it writes.
    pub(super) fn install_good(&mut self) -> Result<String> {
        self.version += 1;
        self.install(&tagger(self.version, TAG, ABI)?)?;
        Ok(tag(self.version))
    }

    /// A version that breaks on every batch of two rows or more. What it makes of a single row is delivered.
    pub(super) fn install_breaking(&mut self) -> Result<String> {
        self.version += 1;
        self.install(&trapping_tagger(self.version, TAG, 2)?)?;
        Ok(tag(self.version))
    }

    pub(super) fn install_garbage(&self) -> Result<()> {
        self.install(b"\0asm garbage")
    }

    pub(super) fn delete_module(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.module())?)
    }

    /// In place: a bit of this byte, one of those that a module begins with.
    pub(super) fn corrupt_module(&self, byte: usize) -> Result<()> {
        let mut module = std::fs::read(self.module())?;
        *module.get_mut(byte).context("a byte of the module")? ^= 0x40;
        Ok(std::fs::write(self.module(), module)?)
    }

    /// In place: this part of it is left.
    pub(super) fn cut_module(&self, part: u64) -> Result<()> {
        let file = std::fs::File::options().write(true).open(self.module())?;
        Ok(file.set_len(file.metadata()?.len() / part)?)
    }
}
