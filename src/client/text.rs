//! Bytes of a container as text: lossless, and harmless.

use std::borrow::Cow;

use crate::model::escaped;

/// The text of bytes that may not be UTF-8: then as [`escaped`] has it.
#[must_use]
pub fn lossless(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| Cow::Owned(escaped(bytes)), Cow::Borrowed)
}

/// Whether a character does something to a terminal or a reader beyond being seen: controls (C0,
/// DEL, C1), the overrides and isolates of Unicode's bidirectional algorithm (UAX #9), line
/// separators, and what is invisible.
#[must_use]
pub fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}
