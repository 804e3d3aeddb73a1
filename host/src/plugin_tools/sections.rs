//! What takes room in a module, by section.

/// A section with its name and size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub name: String,
    pub size_bytes: usize,
}

const NAMES: [&str; 13] = [
    "custom",
    "type",
    "import",
    "function",
    "table",
    "memory",
    "global",
    "export",
    "start",
    "element",
    "code",
    "data",
    "data count",
];
const HEADER_BYTES: usize = 8;

/// The sections of a module in their order; what is damaged ends the list.
pub fn sections(module: &[u8]) -> Vec<Section> {
    let mut sections = Vec::new();
    let mut rest = module.get(HEADER_BYTES..).unwrap_or_default();
    while let Some((id, behind)) = rest.split_first() {
        let Some((len, behind)) = leb(behind) else { break };
        let Some(body) = behind.get(..len) else { break };
        let name = NAMES.get(usize::from(*id)).copied().unwrap_or("unknown");
        let name = match (*id, custom_name(body)) {
            (0, Some(custom)) => format!("{name} {custom}"),
            _ => name.to_owned(),
        };
        sections.push(Section { name, size_bytes: len });
        rest = &behind[len..];
    }
    sections
}

fn custom_name(body: &[u8]) -> Option<&str> {
    let (len, behind) = leb(body)?;
    std::str::from_utf8(behind.get(..len)?).ok()
}

/// An unsigned LEB128 of at most 32 bits, and what follows it.
fn leb(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().enumerate().take(5) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_listed_and_damage_ends_the_list() {
        let module = wat::parse_str(r#"(module (memory 1) (@custom "mine" "abc"))"#).unwrap();
        let found = sections(&module);
        let mine = found.iter().find(|section| section.name == "custom mine").unwrap();
        assert_eq!(mine.size_bytes, 8);
        assert!(found.iter().any(|section| section.name == "memory"));
        for len in 0..module.len() {
            assert!(sections(&module[..len]).len() <= found.len());
        }
    }
}
