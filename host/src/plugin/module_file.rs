//! A WebAssembly file, read far enough to refuse it before anything is compiled.
//!
//! Layout: <https://webassembly.github.io/spec/core/binary/modules.html>

use rowmill_abi::MANIFEST_SECTION;

const MAGIC: &[u8] = b"\0asm";
const CORE_VERSION: &[u8] = &[1, 0, 0, 0];
const SECTION_CUSTOM: u8 = 0;
const SECTION_IMPORT: u8 = 2;
const SECTION_EXPORT: u8 = 7;

pub(crate) const KIND_FUNCTION: u8 = 0;
pub(crate) const KIND_MEMORY: u8 = 2;

/// Where something is not as the format has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadModule {
    #[error("it is no WebAssembly: it doesn't begin with \\0asm")]
    NotWasm,
    #[error("it is a WebAssembly component; a core module is needed (target wasm32-unknown-unknown)")]
    Component,
    #[error("it is cut off or damaged near byte {0}")]
    Damaged(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Import<'a> {
    pub module: &'a str,
    pub name: &'a str,
    pub kind: u8,
}

/// What is looked at before compiling.
#[derive(Debug, Default)]
pub(crate) struct ModuleFile<'a> {
    pub manifest: Option<&'a [u8]>,
    /// Up to the first that is no function: that one alone refuses the module.
    pub imports: Vec<Import<'a>>,
    pub exports: Vec<(&'a str, u8)>,
}

impl<'a> ModuleFile<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BadModule> {
        match (bytes.get(..4), bytes.get(4..8)) {
            (Some(MAGIC), Some(CORE_VERSION)) => {}
            (Some(MAGIC), Some(_)) => return Err(BadModule::Component),
            (Some(MAGIC), None) => return Err(BadModule::Damaged(4)),
            _ => return Err(BadModule::NotWasm),
        }
        let mut file = Self::default();
        let mut reader = Reader { bytes, at: 8 };
        while reader.at < bytes.len() {
            let id = reader.byte()?;
            let len = reader.leb()? as usize;
            let start = reader.at;
            let body = reader.take(len)?;
            let mut section = Reader {
                bytes: &bytes[..start + body.len()],
                at: start,
            };
            match id {
                SECTION_CUSTOM if section.name()? == MANIFEST_SECTION => {
                    file.manifest = Some(&section.bytes[section.at..]);
                }
                SECTION_IMPORT => section.imports(&mut file.imports)?,
                SECTION_EXPORT => section.exports(&mut file.exports)?,
                _ => {}
            }
        }
        Ok(file)
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, BadModule> {
        let byte = *self.bytes.get(self.at).ok_or(BadModule::Damaged(self.at))?;
        self.at += 1;
        Ok(byte)
    }

    /// An unsigned LEB128 of at most 32 bits.
    fn leb(&mut self) -> Result<u32, BadModule> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| BadModule::Damaged(self.at));
            }
        }
        Err(BadModule::Damaged(self.at))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], BadModule> {
        let end = self.at.checked_add(len).ok_or(BadModule::Damaged(self.at))?;
        let taken = self.bytes.get(self.at..end).ok_or(BadModule::Damaged(self.at))?;
        self.at = end;
        Ok(taken)
    }

    fn name(&mut self) -> Result<&'a str, BadModule> {
        let len = self.leb()? as usize;
        let start = self.at;
        std::str::from_utf8(self.take(len)?).map_err(|_| BadModule::Damaged(start))
    }

    fn imports(&mut self, imports: &mut Vec<Import<'a>>) -> Result<(), BadModule> {
        for _ in 0..self.leb()? {
            let import = Import {
                module: self.name()?,
                name: self.name()?,
                kind: self.byte()?,
            };
            imports.push(import);
            if import.kind != KIND_FUNCTION {
                return Ok(());
            }
            self.leb()?;
        }
        Ok(())
    }

    fn exports(&mut self, exports: &mut Vec<(&'a str, u8)>) -> Result<(), BadModule> {
        for _ in 0..self.leb()? {
            let name = self.name()?;
            exports.push((name, self.byte()?));
            self.leb()?;
        }
        Ok(())
    }
}
