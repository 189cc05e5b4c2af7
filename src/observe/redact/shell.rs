//! Splits a shell script into words, operators and here-documents, as sh and bash do.
//!
//! It expands nothing: expansions stay as they are written, and only quotes and backslashes are
//! removed. A text that is no script, or is cut, yields some words as well.

use std::ops::Range;

use super::text::{Decoded, Text, hexadecimal};

/// A part of a script.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A word without quotes, by its range in the text.
    Plain(Range<usize>),
    /// A word with quotes, which are removed in [`Lexer::word`].
    Quoted,
    /// `|`
    Pipe,
    /// What ends a command: `;`, `&`, `&&`, `||`, a line, an opening bracket.
    End,
    /// `)`
    Close,
    /// `>` or `<`: the name of a file follows.
    Redirection,
    /// `<<<`: a word follows, which the command reads from stdin.
    HereString,
    /// The lines of a here-document, by their range in the text.
    HereDocument(Range<usize>),
}

/// Splits a script into its pieces, from the beginning to the end.
pub(super) struct Lexer<'a> {
    pub(super) text: Text<'a>,
    at: usize,
    /// The content of the last [`Piece::Quoted`], without its quotes.
    pub(super) word: Decoded,
    /// The insides of `$(…)`, `<(…)` and backticks in the last word, and of comments.
    pub(super) nested: Vec<Range<usize>>,
    /// The word that will end the here-document which begins after the current line; `None` if none
    /// does.
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
                        return Some(Piece::HereDocument(self.read_here_document(&delimiter)));
                    }
                    return Some(Piece::End);
                }
                _ => break,
            }
        }
        let rest = &bytes[self.at..];
        match rest {
            [b'|', b'|', ..] | [b'&', b'&', ..] => Some(self.take_operator(2, Piece::End)),
            [b'|', b'&', ..] => Some(self.take_operator(2, Piece::Pipe)),
            [b'|', ..] => Some(self.take_operator(1, Piece::Pipe)),
            [b'&', b'>', ..] => Some(self.take_operator(2, Piece::Redirection)),
            [b')', ..] => Some(self.take_operator(1, Piece::Close)),
            [b';' | b'&' | b'(', ..] => Some(self.take_operator(1, Piece::End)),
            [b'<', b'<', b'<', ..] => Some(self.take_operator(3, Piece::HereString)),
            [b'<' | b'>', b'(', ..] => Some(self.read_word()),
            [b'>', b'>' | b'&' | b'|', ..] | [b'<', b'&' | b'>', ..] => {
                Some(self.take_operator(2, Piece::Redirection))
            }
            [b'<' | b'>', ..] => Some(self.take_operator(1, Piece::Redirection)),
            _ => Some(self.read_word()),
        }
    }

    fn take_operator(&mut self, length: usize, piece: Piece) -> Piece {
        self.at += length;
        piece
    }

    fn read_word(&mut self) -> Piece {
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
                b'\'' => self.read_single_quoted(),
                b'"' => self.read_double_quoted(),
                b'\\' => self.read_escape(),
                b'$' | b'`' => self.read_dollar(false),
                b'<' | b'>' if bytes.get(self.at + 1) == Some(&b'(') => self.read_substitution(),
                byte if ends_word(*byte) => break,
                _ => self.push(1),
            }
        }
        Piece::Quoted
    }

    /// Appends the byte at the current position to the word, and moves on by the `length` bytes in
    /// which it is written.
    fn push(&mut self, length: usize) {
        self.push_byte(self.text.bytes[self.at], length);
    }

    fn push_byte(&mut self, byte: u8, length: usize) {
        let end = (self.at + length).min(self.text.bytes.len());
        self.word.push(byte, &self.text, self.at..end);
        self.at = end;
    }

    /// Reads a backslash outside of quotes.
    fn read_escape(&mut self) {
        match self.text.bytes.get(self.at + 1) {
            Some(b'\n') => self.at += 2,
            Some(byte) => self.push_byte(*byte, 2),
            None => self.push(1),
        }
    }

    fn read_single_quoted(&mut self) {
        let rest = &self.text.bytes[self.at + 1..];
        let length = rest.iter().position(|byte| *byte == b'\'').unwrap_or(rest.len());
        self.word.copy(&self.text, self.at + 1..self.at + 1 + length);
        self.at = (self.at + length + 2).min(self.text.bytes.len());
    }

    fn read_double_quoted(&mut self) {
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
                b'$' | b'`' => self.read_dollar(true),
                _ => self.push(1),
            }
        }
    }

    /// Reads `$'…'`, `$"…"`, `$(…)` or a backtick. Any other `$` becomes a part of the word.
    fn read_dollar(&mut self, quoted: bool) {
        let bytes = self.text.bytes;
        match (bytes[self.at], bytes.get(self.at + 1)) {
            (b'`', _) => {
                let rest = &bytes[self.at + 1..];
                let length = rest.iter().position(|byte| *byte == b'`').unwrap_or(rest.len());
                self.push_nested(self.at + 1..self.at + 1 + length, self.at + length + 2);
            }
            (_, Some(b'(')) => self.read_substitution(),
            (_, Some(b'\'')) if !quoted => self.read_ansi_quoted(),
            (_, Some(b'"')) if !quoted => {
                self.at += 1;
                self.read_double_quoted();
            }
            (_, Some(b'{')) => {
                // The default in `${NAME:-X}` can be a secret. It stays a part of the word, which
                // is judged as a whole.
                let rest = &bytes[self.at..];
                let length =
                    rest.iter().position(|byte| *byte == b'}').map_or(rest.len(), |at| at + 1);
                self.word.copy(&self.text, self.at..self.at + length);
                self.at += length;
            }
            _ => self.push(1),
        }
    }

    /// Reads `$(…)` or `<(…)`.
    fn read_substitution(&mut self) {
        let start = self.at + 2;
        let length = closing_bracket(&self.text.bytes[start..]);
        self.push_nested(start..start + length, start + length + 1);
    }

    /// Adds only the brackets of an expansion to the word, and keeps the range of its inside, which
    /// is read as a script of its own.
    fn push_nested(&mut self, inside: Range<usize>, end: usize) {
        let end = end.min(self.text.bytes.len());
        self.word.copy(&self.text, self.at..inside.start.min(end));
        self.word.copy(&self.text, inside.end.min(end)..end);
        self.nested.push(inside);
        self.at = end;
    }

    /// Reads `$'…'`, with the escapes of C.
    fn read_ansi_quoted(&mut self) {
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

    /// The range of the lines up to the delimiter, or up to the end of the text.
    fn read_here_document(&mut self, delimiter: &Range<usize>) -> Range<usize> {
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

/// The number of bytes up to the closing bracket, or of all bytes if there is none.
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

/// Whether a byte in a word begins a quote, an escape or an expansion.
fn is_special(byte: u8) -> bool {
    matches!(byte, b'\'' | b'"' | b'\\' | b'$' | b'`')
}
