//! What secrets look like in text: assignments, headers, URLs, and tokens by their own form.

use std::ops::Range;

use super::names::is_secret;

/// Adds the range of each secret in an argument. `cut`: the argument may go on, so a token may be
/// shorter than tokens are.
pub(super) fn find(arg: &[u8], cut: bool, found: &mut Vec<Range<usize>>) {
    assignments(arg, found);
    authorization(arg, found);
    urls(arg, found);
    tokens(arg, cut, found);
    private_keys(arg, found);
}

/// `NAME=X`, `"name": "X"`, `name: X`.
fn assignments(arg: &[u8], found: &mut Vec<Range<usize>>) {
    for (place, byte) in arg.iter().enumerate() {
        if !matches!(byte, b'=' | b':') {
            continue;
        }
        let before = arg[..place].trim_ascii_end();
        let before = before.strip_suffix(b":").unwrap_or(before);
        let name_end = before
            .iter()
            .rposition(|byte| !matches!(byte, b'"' | b'\'' | b']' | b'\\'))
            .map_or(0, |at| at + 1);
        let quoted = name_end < before.len();
        let name_start =
            before[..name_end].iter().rposition(|byte| !is_name(*byte)).map_or(0, |at| at + 1);
        let after = &arg[place + 1..];
        if *byte == b':' && !quoted && !after.first().is_some_and(u8::is_ascii_whitespace) {
            continue;
        }
        if is_secret(&before[name_start..name_end]) {
            let skipped =
                after.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'=' | b':')).count();
            found.push(value(arg, place + 1 + skipped));
        }
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// A value that begins here: what is in quotes, or up to the end of the word.
pub(super) fn value(arg: &[u8], start: usize) -> Range<usize> {
    let rest = &arg[start.min(arg.len())..];
    // `\"` as in JSON within a shell's string.
    let escape = usize::from(rest.starts_with(b"\\\"") || rest.starts_with(b"\\'"));
    if let Some(quote @ (b'"' | b'\'')) = rest.get(escape) {
        let inside = &rest[escape + 1..];
        let length = inside.iter().position(|byte| byte == quote).unwrap_or(inside.len());
        let length =
            if escape > 0 && inside[..length].ends_with(b"\\") { length - 1 } else { length };
        let start = start + escape + 1;
        return start..start + length;
    }
    let ends = |byte: &u8| {
        byte.is_ascii_whitespace()
            || matches!(byte, b'&' | b';' | b'|' | b'<' | b'>' | b'"' | b'\'')
    };
    let length = rest.iter().position(ends).unwrap_or(rest.len());
    start..start + length
}

/// `Authorization: Basic X`, and `Bearer X` wherever it is.
fn authorization(arg: &[u8], found: &mut Vec<Range<usize>>) {
    for place in places(arg, b"authorization") {
        let rest = &arg[place..];
        let Some(colon) = rest.iter().position(|byte| !matches!(byte, b'"' | b'\'' | b'\\' | b' '))
        else {
            continue;
        };
        if !matches!(rest[colon], b':' | b'=') {
            continue;
        }
        let start = place + colon + 1;
        let start = start
            + arg[start..]
                .iter()
                .take_while(|byte| matches!(byte, b' ' | b'"' | b'\'' | b'\\'))
                .count();
        let line = &arg[start..];
        let line = &line[..line
            .iter()
            .position(|byte| matches!(byte, b'"' | b'\'' | b'\n' | b'\r'))
            .unwrap_or(line.len())];
        // A scheme is a word before more words; without one all is the credential.
        let scheme = line.iter().position(|byte| *byte == b' ').map_or(0, |space| space + 1);
        let scheme = if line[..scheme].trim_ascii_end().iter().all(|byte| is_name(*byte)) {
            scheme
        } else {
            0
        };
        found.push(start + scheme..start + line.len());
    }
    for place in places(arg, b"bearer") {
        let rest = &arg[place..];
        let spaces =
            rest.iter().take_while(|byte| matches!(byte, b' ' | b':' | b'=' | b'\t')).count();
        let length = rest[spaces..]
            .iter()
            .take_while(|byte| is_name(**byte) || b"~+/=".contains(byte))
            .count();
        let credential = &rest[spaces..spaces + length];
        if spaces > 0 && (length >= 16 || credential.iter().any(u8::is_ascii_digit)) {
            found.push(place + spaces..place + spaces + length);
        }
    }
}

/// The places after each occurrence of a word, in any case.
fn places<'a>(arg: &'a [u8], word: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    arg.windows(word.len())
        .enumerate()
        .filter(move |(_, window)| window.eq_ignore_ascii_case(word))
        .map(move |(place, _)| place + word.len())
}

/// `scheme://user:X@host`; and what is too long for a user without a password.
fn urls(arg: &[u8], found: &mut Vec<Range<usize>>) {
    for start in places(arg, b"://") {
        let ends = |byte: &u8| {
            matches!(byte, b'/' | b'?' | b'#' | b'"' | b'\'') || byte.is_ascii_whitespace()
        };
        let authority = &arg[start..];
        let authority = &authority[..authority.iter().position(ends).unwrap_or(authority.len())];
        let Some(at) = authority.iter().rposition(|byte| *byte == b'@') else { continue };
        match authority[..at].iter().position(|byte| *byte == b':') {
            Some(colon) => found.push(start + colon + 1..start + at),
            None if at >= TOKEN_USER => found.push(start..start + at),
            None => {}
        }
    }
}

/// From this length on a user in a URL is a token: `https://TOKEN@host`.
const TOKEN_USER: usize = 20;

/// What begins a token, and how many more letters it has at least.
const TOKENS: [(&[u8], usize); 20] = [
    (b"AKIA", 16),
    (b"ASIA", 16),
    (b"ghp_", 20),
    (b"gho_", 20),
    (b"ghu_", 20),
    (b"ghs_", 20),
    (b"ghr_", 20),
    (b"github_pat_", 20),
    (b"glpat-", 16),
    (b"xoxa-", 8),
    (b"xoxb-", 8),
    (b"xoxe-", 8),
    (b"xoxp-", 8),
    (b"xoxr-", 8),
    (b"xoxs-", 8),
    (b"xapp-", 8),
    (b"sk_live_", 16),
    (b"rk_live_", 16),
    (b"npm_", 30),
    (b"AIza", 30),
];

fn tokens(arg: &[u8], cut: bool, found: &mut Vec<Range<usize>>) {
    let mut place = 0;
    while place < arg.len() {
        if place > 0 && arg[place - 1].is_ascii_alphanumeric() {
            place += 1;
            continue;
        }
        let rest = &arg[place..];
        let length = token(rest, cut);
        if length > 0 {
            found.push(place..place + length);
        }
        place += length.max(1);
    }
}

/// The length of the token that begins here; 0 for none.
fn token(rest: &[u8], cut: bool) -> usize {
    let letters = rest
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        .count();
    let is_cut = cut && letters == rest.len();
    for (prefix, more) in TOKENS {
        if rest.starts_with(prefix) && (letters >= prefix.len() + more || is_cut) {
            return letters;
        }
    }
    // A JSON Web Token: base64url of `{"…`, twice more after dots.
    if rest.starts_with(b"eyJ") {
        let length = rest.iter().take_while(|byte| is_name(**byte)).count();
        let dots = rest[..length].iter().filter(|byte| **byte == b'.').count();
        if dots >= 2 || cut && length == rest.len() {
            return length;
        }
    }
    0
}

/// What is between the lines of a PEM private key.
fn private_keys(arg: &[u8], found: &mut Vec<Range<usize>>) {
    for begin in places(arg, b"-----begin ") {
        let rest = &arg[begin..];
        let Some(label) = rest.windows(5).position(|window| window == b"-----") else { continue };
        if !rest[..label].ends_with(b"PRIVATE KEY") {
            continue;
        }
        let start = label + 5;
        let end = rest[start..]
            .windows(8)
            .position(|window| window == b"-----END")
            .unwrap_or(rest.len() - start);
        found.push(begin + start..begin + start + end);
    }
}

/// Words without which nothing here and in `words` finds anything, in small letters.
const NEEDLES: [&[u8]; 32] = [
    b"pass",
    b"pwd",
    b"secret",
    b"token",
    b"key",
    b"credential",
    b"authorization",
    b"bearer",
    b"mysql",
    b"mariadb",
    b"curl",
    b"wget",
    b"://",
    b"akia",
    b"asia",
    b"ghp_",
    b"gho_",
    b"ghu_",
    b"ghs_",
    b"ghr_",
    b"github_pat_",
    b"glpat-",
    b"xoxa",
    b"xoxb",
    b"xox",
    b"xapp-",
    b"sk_live_",
    b"rk_live_",
    b"npm_",
    b"aiza",
    b"eyj",
    b"-----begin",
];

/// Whether arguments need a closer look. Reads each byte once and allocates nothing.
pub(super) fn suspicious(bytes: &[u8]) -> bool {
    bytes.windows(2).enumerate().any(|(place, pair)| {
        let (first, second) = (pair[0].to_ascii_lowercase(), pair[1].to_ascii_lowercase());
        // Most pairs begin no needle: this is what most bytes cost.
        if !second.is_ascii() || PAIRS[usize::from(first)] >> second & 1 == 0 {
            return false;
        }
        let rest = &bytes[place..];
        NEEDLES.iter().any(|needle| {
            rest.len() >= needle.len() && rest[..needle.len()].eq_ignore_ascii_case(needle)
        })
    })
}

/// For each byte, which others come second in one of [`NEEDLES`]: a bit each.
static PAIRS: [u128; 256] = {
    let mut pairs = [0; 256];
    let mut number = 0;
    while number < NEEDLES.len() {
        let needle = NEEDLES[number];
        pairs[needle[0] as usize] |= 1 << needle[1];
        number += 1;
    }
    pairs
};
