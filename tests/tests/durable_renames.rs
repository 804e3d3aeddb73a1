//! H11: a file that takes another's place is durable before it does, and its name is before anything rests on it.

use rowmill_tests::{Shop, binary};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One call of a thread, in its order.
#[derive(Debug, PartialEq, Eq)]
enum Call {
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
}

/// The calls that went well of one thread's trace (`strace -ff -y`), with whole paths.
fn calls(trace: &str, folder: &Path) -> Vec<Call> {
    let went_well = trace.lines().filter(|line| line.trim_end().ends_with("= 0"));
    let call = |line: &str| {
        let (name, arguments) = line.split_once('(')?;
        match name {
            "fsync" | "fdatasync" => {
                let (_, path) = arguments.split_once('<')?;
                Some(Call::Sync(path.split_once('>')?.0.into()))
            }
            "rename" | "renameat" | "renameat2" => {
                let mut paths = arguments.split('"').skip(1).step_by(2);
                let mut path = || paths.next().map(|path| folder.join(path));
                Some(Call::Rename(path()?, path()?))
            }
            _ => None,
        }
    };
    went_well.filter_map(call).collect()
}

#[test]
fn h11_files_are_durable_before_and_names_after_a_rename() {
    let shop = Shop::new().unwrap();
    shop.fill(2_000).unwrap();
    shop.plugin("mask_pii").unwrap();
    let pipeline = shop.pipeline_of(
        "public.orders, public.customers",
        "plugins:
  mask_pii: { module: mask_pii.wasm, config: { columns: [email], salt: pepper } }
routes:
  - { tables: [public.orders, public.customers], plugins: [mask_pii], sinks: [feed] }",
    );
    let folder = shop.folder().canonicalize().unwrap();
    std::fs::write(folder.join("pipeline.yaml"), &pipeline).unwrap();
    let traced = Command::new("strace")
        .args([
            "-ff",
            "-y",
            "-e",
            "trace=fsync,fdatasync,rename,renameat,renameat2",
            "-o",
        ])
        .arg(folder.join("trace"))
        .arg(binary().unwrap())
        .args(["run", "--once"])
        .current_dir(&folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output();
    let Ok(traced) = traced else {
        return println!("skipped: no strace");
    };
    let told = String::from_utf8_lossy(&traced.stderr);
    if told.contains("Operation not permitted") {
        return println!("skipped: this user may not trace");
    }
    assert!(traced.status.success(), "{told}");

    let mut renamed = BTreeSet::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if !path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("trace."))
        {
            continue;
        }
        let calls = calls(&std::fs::read_to_string(&path).unwrap(), &folder);
        for (at, call) in calls.iter().enumerate() {
            let Call::Rename(from, to) = call else { continue };
            // What is lost of it is compiled again.
            if to.components().any(|part| part.as_os_str() == "compiled") {
                continue;
            }
            let before = calls[..at]
                .iter()
                .rev()
                .take_while(|call| !matches!(call, Call::Rename(..)));
            let is_durable = before.into_iter().any(|call| *call == Call::Sync(from.clone()));
            assert!(
                is_durable,
                "{} wasn't synced before it became {}",
                from.display(),
                to.display()
            );
            let parent = to.parent().unwrap().to_path_buf();
            let behind = calls[at + 1..]
                .iter()
                .take_while(|call| !matches!(call, Call::Rename(..)));
            let is_named = behind.into_iter().any(|call| *call == Call::Sync(parent.clone()));
            assert!(is_named, "the folder of {} wasn't synced", to.display());
            renamed.insert(to.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    assert!(renamed.contains("feed.jsonl.manifest"), "{renamed:?}");
    assert!(renamed.len() >= 3, "{renamed:?}");
}
