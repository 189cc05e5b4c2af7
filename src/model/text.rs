//! Untrusted bytes as text, and characters that are unsafe to print.

use std::{borrow::Cow, fmt::Write as _};

/// The bytes as text: bytes that are not UTF-8 become `\xHH` and a backslash is doubled, so that
/// the original bytes can be restored.
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

/// Whether a character is unsafe to print, because it controls a terminal or misleads a reader:
/// control characters (C0, DEL, C1), the overrides and isolates of Unicode's bidirectional
/// algorithm (UAX #9), line separators, and invisible characters.
#[must_use]
pub fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            // Tag characters: invisible, and able to carry hidden ASCII.
            | '\u{e0000}'..='\u{e007f}')
}
