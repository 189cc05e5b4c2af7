//! Splits a shell script into words, operators and here-documents, as sh and bash do.
//!
//! It does not run anything: expansions stay as they are written, and only quotes and backslashes
//! are removed. A text that is no script, or a cut one, gives some words as well.

use std::ops::Range;

use super::text::{Decoded, Text, hexadecimal};

/// A part of a script.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A word without quotes: it stands in the text.
    Plain(Range<usize>),
    /// A word with quotes, which are removed in [`Lexer::word`].
    Quoted,
    /// `|`
    Pipe,
    /// What ends a command: `;`, `&`, `&&`, `||`, a line, an opening bracket.
    End,
    /// `)`
    Close,
    /// `>`, `<`: a file follows.
    Redirection,
    /// `<<<`: a word follows that the command reads.
    HereString,
    /// The lines of a here-document.
    HereDocument(Range<usize>),
}

/// Reads a script from its beginning to its end.
pub(super) struct Lexer<'a> {
    pub(super) text: Text<'a>,
    at: usize,
    /// The last word with quotes, without them.
    pub(super) word: Decoded,
    /// The insides of `$(…)`, `<(…)` and backticks in the last word, and of comments.
    pub(super) nested: Vec<Range<usize>>,
    /// The word that ends the here-document that begins after this line.
    delimiter: Option<Range<usize>>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: Text<'a>) -> Self {
        Self { text, at: 0, word: Decoded::default(), nested: Vec::new(), delimiter: None }
    }

    pub(super) fn next(&mut self) -> Option<Piece> {
        let bytes = self.text.bytes;
        self.nested.clear();
        loop {
            let byte = *bytes.get(self.at)?;
            match byte {
                b' ' | b'\t' | b'\r' | b'\x0c' => self.at += 1,
                b'\\' if bytes.get(self.at + 1) == Some(&b'\n') => self.at += 2,
                b'#' => {
                    let line = &bytes[self.at..];
                    self.at += line.iter().position(|byte| *byte == b'\n').unwrap_or(line.len());
                }
                b'<' if bytes[self.at..].starts_with(b"<<")
                    && bytes.get(self.at + 2) != Some(&b'<') =>
                {
                    self.at += if bytes.get(self.at + 2) == Some(&b'-') { 3 } else { 2 };
                    self.read_delimiter();
                }
                b'\n' => {
                    self.at += 1;
                    if let Some(delimiter) = self.delimiter.take() {
                        return Some(Piece::HereDocument(self.here_document(&delimiter)));
                    }
                    return Some(Piece::End);
                }
                _ => break,
            }
        }
        let rest = &bytes[self.at..];
        match rest {
            [b'|', b'|', ..] | [b'&', b'&', ..] => Some(self.operator(2, Piece::End)),
            [b'|', b'&', ..] => Some(self.operator(2, Piece::Pipe)),
            [b'|', ..] => Some(self.operator(1, Piece::Pipe)),
            [b'&', b'>', ..] => Some(self.operator(2, Piece::Redirection)),
            [b')', ..] => Some(self.operator(1, Piece::Close)),
            [b';' | b'&' | b'(', ..] => Some(self.operator(1, Piece::End)),
            [b'<', b'<', b'<', ..] => Some(self.operator(3, Piece::HereString)),
            [b'<' | b'>', b'(', ..] => Some(self.word()),
            [b'>', b'>' | b'&' | b'|', ..] | [b'<', b'&' | b'>', ..] => {
                Some(self.operator(2, Piece::Redirection))
            }
            [b'<' | b'>', ..] => Some(self.operator(1, Piece::Redirection)),
            _ => Some(self.word()),
        }
    }

    fn operator(&mut self, length: usize, piece: Piece) -> Piece {
        self.at += length;
        piece
    }

    fn word(&mut self) -> Piece {
        let bytes = self.text.bytes;
        let start = self.at;
        let plain = bytes[start..].iter().position(|byte| ends_word(*byte) || is_special(*byte));
        self.at = plain.map_or(bytes.len(), |length| start + length);
        if bytes.get(self.at).is_none_or(|byte| ends_word(*byte)) && self.at > start {
            return Piece::Plain(start..self.at);
        }
        self.word.clear();
        self.word.copy(&self.text, start..self.at);
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b'\'' => self.single_quoted(),
                b'"' => self.double_quoted(),
                b'\\' => self.escape(),
                b'$' | b'`' => self.dollar(false),
                b'<' | b'>' if bytes.get(self.at + 1) == Some(&b'(') => self.substitution(),
                byte if ends_word(*byte) => break,
                _ => self.push(1),
            }
        }
        Piece::Quoted
    }

    /// Adds the byte at the position, which is written in `length` bytes.
    fn push(&mut self, length: usize) {
        self.push_byte(self.text.bytes[self.at], length);
    }

    fn push_byte(&mut self, byte: u8, length: usize) {
        let end = (self.at + length).min(self.text.bytes.len());
        self.word.push(byte, &self.text, self.at..end);
        self.at = end;
    }

    /// A backslash outside of quotes.
    fn escape(&mut self) {
        match self.text.bytes.get(self.at + 1) {
            Some(b'\n') => self.at += 2,
            Some(byte) => self.push_byte(*byte, 2),
            None => self.push(1),
        }
    }

    fn single_quoted(&mut self) {
        let rest = &self.text.bytes[self.at + 1..];
        let length = rest.iter().position(|byte| *byte == b'\'').unwrap_or(rest.len());
        self.word.copy(&self.text, self.at + 1..self.at + 1 + length);
        self.at = (self.at + length + 2).min(self.text.bytes.len());
    }

    fn double_quoted(&mut self) {
        let bytes = self.text.bytes;
        self.at += 1;
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b'"' => {
                    self.at += 1;
                    return;
                }
                b'\\' => match bytes.get(self.at + 1) {
                    Some(b'\n') => self.at += 2,
                    Some(byte @ (b'$' | b'`' | b'"' | b'\\')) => self.push_byte(*byte, 2),
                    _ => self.push(1),
                },
                b'$' | b'`' => self.dollar(true),
                _ => self.push(1),
            }
        }
    }

    /// `$'…'`, `$"…"`, `$(…)` or a backtick; any other `$` stays.
    fn dollar(&mut self, quoted: bool) {
        let bytes = self.text.bytes;
        match (bytes[self.at], bytes.get(self.at + 1)) {
            (b'`', _) => {
                let rest = &bytes[self.at + 1..];
                let length = rest.iter().position(|byte| *byte == b'`').unwrap_or(rest.len());
                self.nest(self.at + 1..self.at + 1 + length, self.at + length + 2);
            }
            (_, Some(b'(')) => self.substitution(),
            (_, Some(b'\'')) if !quoted => self.ansi_quoted(),
            (_, Some(b'"')) if !quoted => {
                self.at += 1;
                self.double_quoted();
            }
            (_, Some(b'{')) => {
                // A default can be a secret; as a part of the word it is judged with it.
                let rest = &bytes[self.at..];
                let length =
                    rest.iter().position(|byte| *byte == b'}').map_or(rest.len(), |at| at + 1);
                self.word.copy(&self.text, self.at..self.at + length);
                self.at += length;
            }
            _ => self.push(1),
        }
    }

    /// `$(…)` or `<(…)`.
    fn substitution(&mut self) {
        let start = self.at + 2;
        let length = closing_bracket(&self.text.bytes[start..]);
        self.nest(start..start + length, start + length + 1);
    }

    /// Of an expansion only its brackets become a part of the word: the inside is read on its own.
    fn nest(&mut self, inside: Range<usize>, end: usize) {
        let end = end.min(self.text.bytes.len());
        self.word.copy(&self.text, self.at..inside.start.min(end));
        self.word.copy(&self.text, inside.end.min(end)..end);
        self.nested.push(inside);
        self.at = end;
    }

    /// `$'…'`, with the escapes of C.
    fn ansi_quoted(&mut self) {
        let bytes = self.text.bytes;
        self.at += 2;
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b'\'' => {
                    self.at += 1;
                    return;
                }
                b'\\' => match bytes.get(self.at + 1) {
                    Some(b'n') => self.push_byte(b'\n', 2),
                    Some(b't') => self.push_byte(b'\t', 2),
                    Some(b'x') => match bytes.get(self.at + 2..self.at + 4).and_then(hexadecimal) {
                        Some(value) => self.push_byte(value, 4),
                        None => self.push(1),
                    },
                    Some(byte) => self.push_byte(*byte, 2),
                    None => self.push(1),
                },
                _ => self.push(1),
            }
        }
    }

    fn read_delimiter(&mut self) {
        let bytes = self.text.bytes;
        self.at += bytes[self.at..].iter().take_while(|byte| **byte == b' ').count();
        let start = self.at;
        let is_part = |byte: &&u8| !byte.is_ascii_whitespace() && !b";|&()<>".contains(byte);
        self.at += bytes[start..].iter().take_while(is_part).count();
        self.delimiter = Some(start..self.at);
    }

    /// The lines up to the delimiter, or to the end.
    fn here_document(&mut self, delimiter: &Range<usize>) -> Range<usize> {
        let bytes = self.text.bytes;
        let delimiter = bytes[delimiter.clone()].iter().filter(|byte| !b"'\"\\".contains(byte));
        let start = self.at;
        while self.at < bytes.len() {
            let rest = &bytes[self.at..];
            let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            let line = rest[..length].trim_ascii();
            let end = self.at;
            self.at = (self.at + length + 1).min(bytes.len());
            if line.iter().eq(delimiter.clone()) {
                return start..end;
            }
        }
        start..bytes.len()
    }
}

/// The length of the inside of brackets, or of the rest if they are not closed.
fn closing_bracket(bytes: &[u8]) -> usize {
    let (mut depth, mut at, mut quote) = (0_usize, 0, 0);
    while let Some(byte) = bytes.get(at) {
        match (quote, byte) {
            (b'\'', b'\'') | (b'"', b'"') => quote = 0,
            (b'\'', _) => {}
            (_, b'\\') => at += 1,
            (0, b'\'' | b'"') => quote = *byte,
            (0, b'(') => depth += 1,
            (0, b')') if depth == 0 => return at,
            (0, b')') => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

fn ends_word(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b';' | b'&' | b'|' | b'(' | b')' | b'<' | b'>')
}

/// Whether a byte in a word needs more than to be copied.
fn is_special(byte: u8) -> bool {
    matches!(byte, b'\'' | b'"' | b'\\' | b'$' | b'`')
}
