//! Paths and names as the kernel has them, which need not be UTF-8.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    ops::Deref,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::printable;

/// A path or a name as the kernel has it: bytes in any encoding, not necessarily UTF-8.
///
/// It dereferences to its bytes, which clones share. Its `Display` and its `Debug` are safe to
/// print on a terminal, whatever the bytes are: what is unsafe or not UTF-8 is escaped.
///
/// ```
/// use lookout::model::Text;
///
/// let path = Text::from(b"/bin/sh".as_slice());
/// assert_eq!((&path[..], path.to_string()), (&b"/bin/sh"[..], "/bin/sh".to_owned()));
/// assert_eq!(format!("{path:?}"), r#""/bin/sh""#);
/// assert_eq!(Text::from(b"clear\x1b[2J".as_slice()).to_string(), r"clear\x1b[2J");
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text(Arc<[u8]>);

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Box<[u8]>> for Text {
    fn from(bytes: Box<[u8]>) -> Self {
        Self(bytes.into())
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl<const N: usize> From<[u8; N]> for Text {
    fn from(bytes: [u8; N]) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&printable::safe_text(&self.0))
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{self}\"")
    }
}

/// Escapes bytes as text: bytes that are not UTF-8 become `\xHH` and a backslash is doubled, so
/// that the original bytes can be restored.
#[must_use]
pub fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', r"\\"));
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Converts bytes to text without loss. Bytes that are not UTF-8 are escaped by [`escaped`].
#[must_use]
pub fn lossless(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| Cow::Owned(escaped(bytes)), Cow::Borrowed)
}
