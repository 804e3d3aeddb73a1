//! Frames out of a server's messages, and rows as text.

use bytes::{BufMut, BytesMut};
use rowmill::batch::{Batch, Op, Row, Value};

pub fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

pub fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = BytesMut::new();
    frame.put_u8(b'd');
    frame.put_u32(4 + 25 + message.len() as u32);
    frame.put_u8(b'w');
    frame.put_bytes(0, 24);
    frame.put_slice(message);
    frame.to_vec()
}

/// A row as text: operation, table, old and new values.
pub fn show(batch: &Batch, row: &Row) -> String {
    match row.op {
        Op::Truncate => {
            let truncate = &batch.truncates[row.extra as usize];
            let tables: Vec<_> = truncate
                .relations
                .iter()
                .map(|at| &*batch.relations[*at as usize].table)
                .collect();
            return format!(
                "truncate {} cascade={} restart={}",
                tables.join(","),
                truncate.cascade,
                truncate.restart_identity
            );
        }
        Op::Message => {
            let message = &batch.messages[row.extra as usize];
            return format!(
                "message {} {:?} transactional={}",
                message.prefix, message.content, message.transactional
            );
        }
        _ => {}
    }
    let relation = batch.relation(row);
    let values = |tuple| {
        let text: Vec<String> = batch
            .values(tuple, relation)
            .map(|value| match value {
                Value::Text(text) if text.len() > 20 => format!("{} bytes", text.len()),
                Value::Text(text) => String::from_utf8(text.to_vec()).unwrap().escape_debug().to_string(),
                other => format!("<{other:?}>"),
            })
            .collect();
        text.join("|")
    };
    let old = row
        .old
        .map(|old| format!(" {:?}({})", row.old_image, values(old)))
        .unwrap_or_default();
    let new = row.new.map(|new| format!(" ({})", values(new))).unwrap_or_default();
    format!("{} {}{old}{new}", row.op.name(), relation.table)
}

/// Compares with a golden file; `BLESS=1` writes it.
pub fn assert_golden(text: &str, path: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap());
}
