use super::FromText;
use std::fmt;

/// A uuid, as its 16 bytes.
///
/// ```
/// use rowmill_plugin::postgres::{FromText, Uuid};
///
/// let id = Uuid::from_text("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11").unwrap();
/// assert_eq!(id.0[0], 0xa0);
/// assert_eq!(id.to_string(), "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

/// Before which bytes a hyphen stands.
const HYPHENS: [usize; 4] = [4, 6, 8, 10];

impl FromText<'_> for Uuid {
    const WANTED: &'static str = "a uuid";

    fn from_text(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        let mut rest = text.as_bytes();
        for (at, byte) in bytes.iter_mut().enumerate() {
            if HYPHENS.contains(&at) {
                rest = rest.strip_prefix(b"-")?;
            }
            let [high, low, left @ ..] = rest else {
                return None;
            };
            *byte = digit(*high)? << 4 | digit(*low)?;
            rest = left;
        }
        rest.is_empty().then_some(Self(bytes))
    }
}

fn digit(hex: u8) -> Option<u8> {
    char::from(hex).to_digit(16).map(|digit| digit as u8)
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if HYPHENS.contains(&at) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}
