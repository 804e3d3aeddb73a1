//! A module that was read, checked and compiled.

use super::error::{self, HASH_SHOWN, PluginError, guest_text};
use super::host::{self, HostState, LogBudget, SharedLogBudget};
use super::kv;
use super::manifest::{Manifest, SCOPES};
use super::module_file::{Import, KIND_FUNCTION, KIND_MEMORY, ModuleFile};
use super::wasi;
use crate::config::Limits;
use rowmill_abi::{ABI_MAJOR, ABI_MINOR, IMPORT_MODULE};
use std::collections::HashSet;
use wasmtime::{ExternType, InstancePre, Linker, ValType};

/// A version of a plugin's code. The same bytes are the same version.
pub struct Module {
    hash: [u8; 32],
    hex: String,
    manifest: Manifest,
    pub(crate) pre: InstancePre<HostState>,
    /// Whether it asks for random bytes by row.
    pub(crate) imports_random: bool,
    log_budget: SharedLogBudget,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module")
            .field("hash", &self.hex)
            .field("manifest", &self.manifest)
            .finish_non_exhaustive()
    }
}

/// Functions that a module must export, with parameters and result.
const FUNCTIONS: [(&str, &[ValType], Option<ValType>); 6] = [
    ("rowmill_abi", &[], Some(ValType::I32)),
    ("rowmill_alloc", &[ValType::I32], Some(ValType::I32)),
    ("rowmill_free", &[ValType::I32, ValType::I32], None),
    ("rowmill_init", &[ValType::I32, ValType::I32], Some(ValType::I64)),
    ("rowmill_schema", &[ValType::I32, ValType::I32], Some(ValType::I64)),
    ("rowmill_batch", &[ValType::I32, ValType::I32], Some(ValType::I64)),
];
const MEMORY: &str = "memory";
pub(crate) const CHECKPOINT: &str = "rowmill_checkpoint";
pub(crate) const MIGRATE: &str = "rowmill_migrate";
/// The global that says which row is being worked on, where there is one.
const ROW: &str = "rowmill_row";
const REBUILD: &str = "rebuild the plugin with the `rowmill-plugin` crate of this version";

impl Module {
    /// SHA-256 of the module.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// The hash in hex.
    pub fn hash_hex(&self) -> &str {
        &self.hex
    }

    /// The beginning of the hash, as it is shown to people.
    pub fn hash_short(&self) -> &str {
        &self.hex[..HASH_SHOWN]
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What it imports, as `module.name`.
    pub fn imports(&self) -> Vec<String> {
        let imports = self.pre.module().imports();
        imports
            .map(|import| format!("{}.{}", import.module(), import.name()))
            .collect()
    }

    /// The names of what it exports.
    pub fn exports(&self) -> Vec<String> {
        self.pre
            .module()
            .exports()
            .map(|export| export.name().to_owned())
            .collect()
    }

    pub(crate) fn log_budget(&self) -> SharedLogBudget {
        SharedLogBudget::clone(&self.log_budget)
    }

    /// Links what was compiled of checked bytes.
    pub(crate) fn link(hash: [u8; 32], manifest: Manifest, module: &wasmtime::Module) -> Result<Self, PluginError> {
        let wrong = wrong_exports(module);
        if !wrong.is_empty() {
            return Err(PluginError::refused(
                error::EXPORTS,
                format!("the plugin's exports have other types: {}", wrong.join(", ")),
                REBUILD,
            ));
        }
        let mut linker = Linker::new(module.engine());
        let mut imports_random = false;
        // A function may be imported more than once.
        let mut defined = HashSet::new();
        for import in module.imports() {
            if !defined.insert((import.module(), import.name())) {
                continue;
            }
            imports_random |= import.name() == "random";
            if import.module() == wasi::MODULE {
                wasi::define(&mut linker, import.name(), &import.ty())
            } else {
                host::define(&mut linker, import.name())
            }
            .map_err(|cause| foreign_import(import.module(), import.name(), &format!("{cause:#}")))?;
        }
        let pre = linker.instantiate_pre(module).map_err(|cause| {
            PluginError::refused_because(
                error::IMPORTS,
                "an import of the plugin has another type than the host's",
                format!("{cause:#}"),
                REBUILD,
            )
        })?;
        Ok(Self {
            hash,
            hex: hex(&hash),
            manifest,
            pre,
            imports_random,
            log_budget: LogBudget::new(),
        })
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn foreign_import(module: &str, name: &str, cause: &str) -> PluginError {
    // Names of the guest's own choice.
    let named = guest_text(format!("{module}.{name}").as_bytes());
    PluginError::refused_because(
        error::IMPORTS,
        format!("the plugin imports {named}, which the host doesn't offer"),
        cause,
        "build it for wasm32-unknown-unknown and import nothing but the plugin ABI",
    )
}

/// Checks what can be checked before compiling: manifest, all exports, all imports.
pub(crate) fn check(file: &ModuleFile<'_>, limits: &Limits) -> Result<Manifest, PluginError> {
    let manifest = match file.manifest {
        None => Manifest::default(),
        Some(section) => Manifest::parse(section).map_err(|cause| {
            let headline = "the plugin's section `rowmill.plugin` can't be read";
            PluginError::refused_because(error::UNREADABLE, headline, cause, REBUILD)
        })?,
    };
    if let Some(abi) = manifest.abi {
        check_abi(abi, &manifest)?;
    }
    check_exports(file)?;
    if let Some(Import { module, name, .. }) = file.imports.iter().find(|import| !is_offered(import)) {
        return Err(foreign_import(
            module,
            name,
            "only functions of `rowmill` and a stub of WASI are offered",
        ));
    }
    check_state(file, &manifest)?;
    check_entries(file, &manifest, limits)?;
    Ok(manifest)
}

fn check_exports(file: &ModuleFile<'_>) -> Result<(), PluginError> {
    let exports = |name: &str, kind: u8| file.exports.contains(&(name, kind));
    let missing: Vec<&str> = FUNCTIONS
        .iter()
        .map(|(name, ..)| (*name, KIND_FUNCTION))
        .chain([(MEMORY, KIND_MEMORY)])
        .filter(|(name, kind)| !exports(name, *kind))
        .map(|(name, _)| name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(PluginError::refused(
        error::EXPORTS,
        format!("the plugin lacks exports: {}", missing.join(", ")),
        REBUILD,
    ))
}

/// A plugin that keeps state can give it, and says in which version.
fn check_state(file: &ModuleFile<'_>, manifest: &Manifest) -> Result<(), PluginError> {
    let scope = manifest.state_scope.as_str();
    if !SCOPES.contains(&scope) {
        let headline = format!(
            "the plugin's manifest names the state scope `{}`",
            guest_text(scope.as_bytes())
        );
        return Err(PluginError::refused(
            error::UNREADABLE,
            headline,
            "name one of `none`, `key`, `whole`",
        ));
    }
    if !manifest.has_state() {
        return Ok(());
    }
    if manifest.state_version == 0 {
        let headline = format!("the plugin has the state scope `{scope}` and no state version");
        return Err(PluginError::refused(
            error::UNREADABLE,
            headline,
            "give it a `state_version` of 1 or more",
        ));
    }
    if !file.exports.contains(&(CHECKPOINT, KIND_FUNCTION)) {
        return Err(PluginError::refused(
            error::EXPORTS,
            format!("the plugin has the state scope `{scope}` and lacks the export {CHECKPOINT}"),
            REBUILD,
        ));
    }
    Ok(())
}

/// Entries by key are there where both the manifest and pipeline.yaml name them.
fn check_entries(file: &ModuleFile<'_>, manifest: &Manifest, limits: &Limits) -> Result<(), PluginError> {
    let imported = file.imports.iter().find(|import| kv::IMPORTS.contains(&import.name));
    let what = match imported {
        Some(import) => format!("imports {IMPORT_MODULE}.{}", import.name),
        None if manifest.has_entries() => "asks for entries by key".to_owned(),
        None => return Ok(()),
    };
    let (cause, help) = match () {
        () if !manifest.has_entries() => (
            "its manifest doesn't name the feature `kv`",
            "name `kv` among the `features` of the plugin's manifest",
        ),
        () if limits.kv.is_none() => (
            "pipeline.yaml doesn't allow it",
            "add `features: [kv]` to the plugin in pipeline.yaml",
        ),
        () => return Ok(()),
    };
    let headline = format!("the plugin {what}, which it may not use");
    Err(PluginError::refused_because(error::IMPORTS, headline, cause, help))
}

fn is_offered(import: &Import<'_>) -> bool {
    import.kind == KIND_FUNCTION
        && match import.module {
            IMPORT_MODULE => host::IMPORTS.contains(&import.name) || kv::IMPORTS.contains(&import.name),
            wasi::MODULE => wasi::is_function(import.name),
            _ => false,
        }
}

/// The major version must be the host's, and the minor not newer unless the plugin is content with an older host.
pub(crate) fn check_abi(abi: i32, manifest: &Manifest) -> Result<(), PluginError> {
    let (major, minor) = ((abi >> 16) as u16, abi as u16);
    // The minor version that a host must have at least: its own, unless the plugin is content with an older one.
    let least = if minor > ABI_MINOR {
        manifest.min_minor.unwrap_or(minor)
    } else {
        minor
    };
    if major == ABI_MAJOR && (0..=ABI_MINOR).contains(&least) {
        return Ok(());
    }
    Err(PluginError::refused(
        error::ABI_VERSION,
        format!("the plugin was built for ABI {major}.{minor}; this host has {ABI_MAJOR}.{ABI_MINOR}"),
        REBUILD,
    ))
}

fn wrong_exports(module: &wasmtime::Module) -> Vec<String> {
    let mut wrong: Vec<String> = FUNCTIONS
        .iter()
        .filter(|(name, params, result)| !is_function(module.get_export(name), params, result.as_ref()))
        .map(|(name, ..)| (*name).to_owned())
        .collect();
    let optional: [(&str, &[ValType], Option<ValType>); 3] = [
        ("_initialize", &[], None),
        (CHECKPOINT, &[], Some(ValType::I64)),
        (MIGRATE, &[ValType::I32, ValType::I32, ValType::I32], Some(ValType::I64)),
    ];
    for (name, params, result) in optional {
        if let Some(export) = module.get_export(name)
            && !is_function(Some(export), params, result.as_ref())
        {
            wrong.push(name.to_owned());
        }
    }
    if let Some(row) = module.get_export(ROW)
        && !matches!(&row, ExternType::Global(global) if global.content().is_i32())
    {
        wrong.push(ROW.to_owned());
    }
    wrong
}

fn is_function(export: Option<ExternType>, params: &[ValType], result: Option<&ValType>) -> bool {
    let Some(ExternType::Func(ty)) = export else {
        return false;
    };
    let same = |left: &ValType, right: &ValType| ValType::eq(left, right);
    ty.params().len() == params.len()
        && ty.params().zip(params).all(|(is, wanted)| same(&is, wanted))
        && ty.results().len() == usize::from(result.is_some())
        && ty.results().zip(result).all(|(is, wanted)| same(&is, wanted))
}
