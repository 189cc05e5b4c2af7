//! Finds secrets by their form: assignments, headers, URLs, tokens and private keys.

use std::ops::Range;

use super::names::is_secret;

/// Adds the range of each secret in an argument to `found`. `truncated` means that the end of the
/// argument may be missing, so a token may be shorter than its usual length.
pub(super) fn find(arg: &[u8], truncated: bool, found: &mut Vec<Range<usize>>) {
    assignments(arg, found);
    authorization(arg, found);
    urls(arg, found);
    tokens(arg, truncated, found);
    private_keys(arg, found);
}

/// Finds the values of assignments: `NAME=X`, `"name": "X"`, `name: X`.
fn assignments(arg: &[u8], found: &mut Vec<Range<usize>>) {
    for (at, byte) in arg.iter().enumerate() {
        if !matches!(byte, b'=' | b':') {
            continue;
        }
        let before = arg[..at].trim_ascii_end();
        // `name := value` has two signs.
        let before = before.strip_suffix(b":").unwrap_or(before);
        let name_end = before
            .iter()
            .rposition(|byte| !matches!(byte, b'"' | b'\'' | b']' | b'\\'))
            .map_or(0, |last| last + 1);
        // A closing quote or bracket before the sign: JSON, or `map['password'] = X`.
        let quoted = name_end < before.len();
        let name_start =
            before[..name_end].iter().rposition(|byte| !is_name(*byte)).map_or(0, |last| last + 1);
        let after = &arg[at + 1..];
        // An unquoted colon without a space is mostly no assignment: `host:port`, `https://`.
        if *byte == b':' && !quoted && !after.first().is_some_and(u8::is_ascii_whitespace) {
            continue;
        }
        if is_secret(&before[name_start..name_end]) {
            let skipped =
                after.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'=' | b':')).count();
            found.push(value(arg, at + 1 + skipped));
        }
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// The range of the value that begins at `start`: the text inside quotes, or the rest of the word.
pub(super) fn value(arg: &[u8], start: usize) -> Range<usize> {
    let rest = &arg[start.min(arg.len())..];
    // JSON inside a shell string has escaped quotes: `\"`.
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

/// Finds the credentials of `Authorization: Basic X`, and of `Bearer X` anywhere.
fn authorization(arg: &[u8], found: &mut Vec<Range<usize>>) {
    for end in ends_of(arg, b"authorization") {
        let rest = &arg[end..];
        let Some(colon) = rest.iter().position(|byte| !matches!(byte, b'"' | b'\'' | b'\\' | b' '))
        else {
            continue;
        };
        if !matches!(rest[colon], b':' | b'=') {
            continue;
        }
        let start = end + colon + 1;
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
        // A first word before other words is the scheme. Without a scheme the whole line is the
        // credential.
        let scheme = line.iter().position(|byte| *byte == b' ').map_or(0, |space| space + 1);
        let scheme = if line[..scheme].trim_ascii_end().iter().all(|byte| is_name(*byte)) {
            scheme
        } else {
            0
        };
        found.push(start + scheme..start + line.len());
    }
    for end in ends_of(arg, b"bearer") {
        let rest = &arg[end..];
        let spaces =
            rest.iter().take_while(|byte| matches!(byte, b' ' | b':' | b'=' | b'\t')).count();
        let length = rest[spaces..]
            .iter()
            .take_while(|byte| is_name(**byte) || b"~+/=".contains(byte))
            .count();
        let credential = &rest[spaces..spaces + length];
        // "Bearer" is also an English word, so a short text after it needs a digit.
        if spaces > 0 && (length >= 16 || credential.iter().any(u8::is_ascii_digit)) {
            found.push(end + spaces..end + spaces + length);
        }
    }
}

/// The position after each occurrence of a word, in upper or lower case.
fn ends_of<'a>(arg: &'a [u8], word: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    arg.windows(word.len())
        .enumerate()
        .filter(move |(_, window)| window.eq_ignore_ascii_case(word))
        .map(move |(begin, _)| begin + word.len())
}

/// Finds the password of `scheme://user:X@host`, and a user without a password that is long enough
/// to be a token.
fn urls(arg: &[u8], found: &mut Vec<Range<usize>>) {
    for start in ends_of(arg, b"://") {
        let ends = |byte: &u8| {
            matches!(byte, b'/' | b'?' | b'#' | b'"' | b'\'') || byte.is_ascii_whitespace()
        };
        let authority = &arg[start..];
        let authority = &authority[..authority.iter().position(ends).unwrap_or(authority.len())];
        // The last `@` ends the user information: an unescaped password may contain others.
        let Some(at) = authority.iter().rposition(|byte| *byte == b'@') else { continue };
        match authority[..at].iter().position(|byte| *byte == b':') {
            Some(colon) => found.push(start + colon + 1..start + at),
            None if at >= TOKEN_USER => found.push(start..start + at),
            None => {}
        }
    }
}

/// From this length in bytes on, a user in a URL counts as a token: `https://TOKEN@host`.
const TOKEN_USER: usize = 20;

/// Prefixes of tokens, and how many more characters such a token has at least.
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

fn tokens(arg: &[u8], truncated: bool, found: &mut Vec<Range<usize>>) {
    let mut at = 0;
    while at < arg.len() {
        // A token begins at the beginning of a word, not inside of one.
        if at > 0 && arg[at - 1].is_ascii_alphanumeric() {
            at += 1;
            continue;
        }
        let rest = &arg[at..];
        let length = token_length(rest, truncated);
        if length > 0 {
            found.push(at..at + length);
        }
        at += length.max(1);
    }
}

/// The length of the token at the beginning of `rest`, in bytes; 0 if there is none.
fn token_length(rest: &[u8], truncated: bool) -> usize {
    let length = rest
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        .count();
    let is_truncated = truncated && length == rest.len();
    for (prefix, more) in TOKENS {
        if rest.starts_with(prefix) && (length >= prefix.len() + more || is_truncated) {
            return length;
        }
    }
    // A JSON Web Token has three parts with dots between them; the first is the base64url of `{"…`.
    if rest.starts_with(b"eyJ") {
        let length = rest.iter().take_while(|byte| is_name(**byte)).count();
        let dots = rest[..length].iter().filter(|byte| **byte == b'.').count();
        if dots >= 2 || truncated && length == rest.len() {
            return length;
        }
    }
    0
}

/// Finds the text between the first and the last line of a PEM private key.
fn private_keys(arg: &[u8], found: &mut Vec<Range<usize>>) {
    for begin in ends_of(arg, b"-----begin ") {
        let rest = &arg[begin..];
        let Some(label) = rest.windows(5).position(|window| window == b"-----") else { continue };
        // Certificates and public keys have the same form.
        if !rest[..label].ends_with(b"PRIVATE KEY") {
            continue;
        }
        let start = label + 5;
        let end = rest[start..]
            .windows(8)
            .position(|window| window == b"-----END")
            // Without an end line the key is truncated, and the rest of the argument is secret.
            .unwrap_or(rest.len() - start);
        found.push(begin + start..begin + start + end);
    }
}

/// Words in lower case. Arguments that contain none of them have no secrets by the rules here and
/// in `words`.
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

/// Whether arguments can contain a secret by the built-in rules. Reads each byte once and allocates
/// nothing.
pub(super) fn is_suspicious(bytes: &[u8]) -> bool {
    bytes.windows(2).enumerate().any(|(at, pair)| {
        let (first, second) = (pair[0].to_ascii_lowercase(), pair[1].to_ascii_lowercase());
        // Most pairs of bytes begin no needle, so for most bytes this check is the whole cost.
        if !second.is_ascii() || PAIRS[usize::from(first)] >> second & 1 == 0 {
            return false;
        }
        let rest = &bytes[at..];
        NEEDLES.iter().any(|needle| {
            rest.len() >= needle.len() && rest[..needle.len()].eq_ignore_ascii_case(needle)
        })
    })
}

/// For each first byte of a needle, the possible second bytes: bit N is set if byte N can follow.
/// Needles are ASCII, so 128 bits are enough.
static PAIRS: [u128; 256] = {
    let mut pairs = [0; 256];
    let mut index = 0;
    // Iterators are not available in constants.
    while index < NEEDLES.len() {
        let needle = NEEDLES[index];
        pairs[needle[0] as usize] |= 1 << needle[1];
        index += 1;
    }
    pairs
};
