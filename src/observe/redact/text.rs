//! A text, and the position of each of its bytes in the captured arguments.
//!
//! Rules read a text as the program reads it: after the shell has removed the quotes, or with the
//! escapes of JSON and URLs decoded. The secrets that they find must be replaced in the captured
//! bytes, so each decoded byte is kept with the captured range in which it was written.

use std::ops::Range;

/// A text with the position of each byte in the captured arguments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) bytes: &'a [u8],
    positions: Positions<'a>,
}

/// The positions of the bytes of a [`Text`].
#[derive(Debug, Clone, Copy)]
enum Positions<'a> {
    /// The text is a part of the captured arguments, from this position on.
    Same(usize),
    /// The text is decoded: one packed range for each byte, see [`LENGTH_BITS`].
    Decoded(&'a [u32]),
}

impl<'a> Text<'a> {
    /// Captured bytes that begin at `start`.
    pub(super) fn captured(bytes: &'a [u8], start: usize) -> Self {
        Self { bytes, positions: Positions::Same(start) }
    }

    /// A part of the text. The range is within the text.
    pub(super) fn part(self, range: Range<usize>) -> Self {
        let positions = match self.positions {
            Positions::Same(start) => Positions::Same(start + range.start),
            Positions::Decoded(positions) => Positions::Decoded(&positions[range.clone()]),
        };
        Self { bytes: &self.bytes[range], positions }
    }

    /// The text from a position on.
    pub(super) fn from(self, start: usize) -> Self {
        self.part(start.min(self.bytes.len())..self.bytes.len())
    }

    /// The captured range of a part.
    pub(super) fn captured_range(&self, range: Range<usize>) -> Range<usize> {
        if range.is_empty() {
            return 0..0;
        }
        self.captured_range_of_byte(range.start).start
            ..self.captured_range_of_byte(range.end - 1).end
    }

    /// The captured range of one byte.
    fn captured_range_of_byte(&self, at: usize) -> Range<usize> {
        match self.positions {
            Positions::Same(start) => start + at..start + at + 1,
            Positions::Decoded(positions) => {
                let start = (positions[at] >> LENGTH_BITS) as usize;
                start..start + (positions[at] & LENGTH_MAX) as usize
            }
        }
    }
}

/// A captured range is packed into 32 bits: its start in the upper bits, its length in the lower
/// ones. Arguments of at most 16 KiB are captured, so a start always fits.
const LENGTH_BITS: u32 = 8;
const LENGTH_MAX: u32 = (1 << LENGTH_BITS) - 1;

/// A buffer of decoded bytes, each with its captured range.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    bytes: Vec<u8>,
    positions: Vec<u32>,
}

impl Decoded {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.positions.clear();
    }

    /// Appends a byte that is written in `range` of `text`.
    pub(super) fn push(&mut self, byte: u8, text: &Text<'_>, range: Range<usize>) {
        let range = text.captured_range(range);
        let start = u32::try_from(range.start).unwrap_or(u32::MAX);
        let length = u32::try_from(range.len()).unwrap_or(LENGTH_MAX).min(LENGTH_MAX);
        self.bytes.push(byte);
        self.positions.push(start.min(u32::MAX >> LENGTH_BITS) << LENGTH_BITS | length);
    }

    /// Appends a part of `text` unchanged.
    pub(super) fn copy(&mut self, text: &Text<'_>, range: Range<usize>) {
        for at in range {
            self.push(text.bytes[at], text, at..at + 1);
        }
    }

    pub(super) fn text(&self) -> Text<'_> {
        Text { bytes: &self.bytes, positions: Positions::Decoded(&self.positions) }
    }
}

/// Decodes `%22` of URLs and `\u0022` of JSON into `decoded`. Returns whether a character was
/// decoded that changes what the text means: a letter, a quote, `=`, `:`, `&` or a bracket.
pub(super) fn decode_escapes(text: Text<'_>, decoded: &mut Decoded) -> bool {
    let mut changed = false;
    let mut at = 0;
    decoded.clear();
    // If the text contains `=`, it is a form with encoded values, and an encoded `&` is a part of a
    // value.
    let is_form = text.bytes.contains(&b'=');
    while let Some(byte) = text.bytes.get(at) {
        let (digits, length) = match byte {
            b'%' => (text.bytes.get(at + 1..at + 3), 3),
            b'\\' if text.bytes[at..].starts_with(b"\\u00") => (text.bytes.get(at + 4..at + 6), 6),
            _ => (None, 1),
        };
        let byte = match digits.and_then(hexadecimal) {
            // Other escapes, such as `%40` in a password, stay as they are, as a part of the value.
            Some(b'&') if is_form => *byte,
            Some(value) if value.is_ascii_alphabetic() || b"\"'=:&{},;<>".contains(&value) => {
                changed = true;
                decoded.push(value, &text, at..at + length);
                at += length;
                continue;
            }
            _ => *byte,
        };
        decoded.push(byte, &text, at..at + 1);
        at += 1;
    }
    changed
}

/// Whether [`decode_escapes`] can decode something: a cheap check before it copies.
pub(super) fn has_escapes(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| {
        pair == b"\\u" || pair[0] == b'%' && matches!(pair[1], b'2' | b'3' | b'5' | b'7')
    })
}

/// The value of two hexadecimal digits.
pub(super) fn hexadecimal(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok()?;
    let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_number.then(|| u8::from_str_radix(text, 16).ok()).flatten()
}
