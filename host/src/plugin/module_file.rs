//! A WebAssembly file, read far enough to refuse it before anything is compiled.
//!
//! Layout: <https://webassembly.github.io/spec/core/binary/modules.html>
//!
//! What is bounded here is what costs the host before a guest's own limits of time and memory hold: tables of names,
//! and the compiler's work. Honest modules stay far below: of the plugins in this repository those in Go have most, with
//! 1,366 functions, the largest of 12 KiB, 15 imports and 8 exports.

use rowmill_abi::MANIFEST_SECTION;

/// Of all kinds. A module imports the ABI's 8 functions and at most the 46 of WASI, each maybe more than once.
pub(crate) const IMPORTS_MAX: usize = 1_000;
/// Of all kinds. The ABI has 11.
pub(crate) const EXPORTS_MAX: usize = 10_000;
/// Functions of the module's own.
pub(crate) const FUNCTIONS_MAX: usize = 50_000;
/// One function's code. What a compiler needs for one function grows faster than the function.
pub(crate) const FUNCTION_BYTES_MAX: usize = 512 * 1024;
/// Locals of a function times the bytes of its code: a compiler keeps a value for each local in each block.
pub(crate) const FUNCTION_WORK_MAX: u64 = 256 << 20;
/// The manifest with the JSON Schema of a configuration in it.
pub(crate) const MANIFEST_BYTES_MAX: usize = 256 * 1024;
/// Of an import or export.
pub(crate) const NAME_BYTES_MAX: usize = 1_024;

const MAGIC: &[u8] = b"\0asm";
const CORE_VERSION: &[u8] = &[1, 0, 0, 0];
const SECTION_CUSTOM: u8 = 0;
const SECTION_IMPORT: u8 = 2;
const SECTION_EXPORT: u8 = 7;
const SECTION_CODE: u8 = 10;

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
    #[error("{what}: {found}; at most {limit} are allowed")]
    TooMuch { what: &'static str, found: u64, limit: u64 },
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
                    let manifest = &section.bytes[section.at..];
                    bounded(
                        "bytes of its section `rowmill.plugin`",
                        manifest.len(),
                        MANIFEST_BYTES_MAX,
                    )?;
                    file.manifest = Some(manifest);
                }
                SECTION_IMPORT => section.imports(&mut file.imports)?,
                SECTION_EXPORT => section.exports(&mut file.exports)?,
                SECTION_CODE => section.code()?,
                _ => {}
            }
        }
        Ok(file)
    }
}

fn bounded(what: &'static str, found: usize, limit: usize) -> Result<(), BadModule> {
    if found <= limit {
        return Ok(());
    }
    Err(BadModule::TooMuch {
        what,
        found: found as u64,
        limit: limit as u64,
    })
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

    /// The number of entries that follow, each of which has a byte at least.
    fn count(&mut self, what: &'static str, limit: usize) -> Result<usize, BadModule> {
        let start = self.at;
        let count = self.leb()? as usize;
        if count > self.bytes.len() - self.at {
            return Err(BadModule::Damaged(start));
        }
        bounded(what, count, limit)?;
        Ok(count)
    }

    fn name(&mut self) -> Result<&'a str, BadModule> {
        let len = self.leb()? as usize;
        let start = self.at;
        std::str::from_utf8(self.take(len)?).map_err(|_| BadModule::Damaged(start))
    }

    fn imports(&mut self, imports: &mut Vec<Import<'a>>) -> Result<(), BadModule> {
        for _ in 0..self.count("imports", IMPORTS_MAX)? {
            let import = Import {
                module: self.short_name()?,
                name: self.short_name()?,
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
        for _ in 0..self.count("exports", EXPORTS_MAX)? {
            let name = self.short_name()?;
            exports.push((name, self.byte()?));
            self.leb()?;
        }
        Ok(())
    }

    fn short_name(&mut self) -> Result<&'a str, BadModule> {
        let name = self.name()?;
        bounded("bytes of the name of an import or export", name.len(), NAME_BYTES_MAX)?;
        Ok(name)
    }

    /// Looks at the size of each function, and at how many locals it has.
    fn code(&mut self) -> Result<(), BadModule> {
        for _ in 0..self.count("functions", FUNCTIONS_MAX)? {
            let len = self.leb()? as usize;
            bounded("bytes of one function", len, FUNCTION_BYTES_MAX)?;
            let start = self.at;
            let body = self.take(len)?;
            let mut body = Reader {
                bytes: &self.bytes[..start + body.len()],
                at: start,
            };
            let mut locals = 0u64;
            for _ in 0..body.leb()? {
                locals += u64::from(body.leb()?);
                body.value_type()?;
            }
            let work = locals.saturating_mul(len as u64);
            if work > FUNCTION_WORK_MAX {
                return Err(BadModule::TooMuch {
                    what: "locals of one function times its bytes",
                    found: work,
                    limit: FUNCTION_WORK_MAX,
                });
            }
        }
        Ok(())
    }

    /// One byte, but for references that name what they refer to.
    fn value_type(&mut self) -> Result<(), BadModule> {
        const REFERENCE: [u8; 2] = [0x63, 0x64];
        if REFERENCE.contains(&self.byte()?) {
            self.leb()?;
        }
        Ok(())
    }
}
