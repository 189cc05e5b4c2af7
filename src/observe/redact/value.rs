//! Decides whether a value can be a secret: references, paths, switches and words are not.

use super::names::ValueKind;

/// Whether a value is a secret as a whole, if the name has values of this kind.
pub(super) fn is_secret(value_kind: ValueKind, value: &[u8]) -> bool {
    match value_kind {
        ValueKind::Other | ValueKind::Source | ValueKind::Cookie => false,
        ValueKind::Secret | ValueKind::Pair => !is_harmless(value),
        ValueKind::Likely | ValueKind::LikelyPair | ValueKind::PairOrLikely => looks_secret(value),
        ValueKind::Key => {
            let is_word = |byte: &u8| byte.is_ascii_lowercase() || !byte.is_ascii_alphanumeric();
            !is_harmless(value) && value.len() >= 8 && !value.iter().all(is_word)
        }
        ValueKind::Number => {
            let is_code = value.iter().all(u8::is_ascii_digit) && (4..=12).contains(&value.len());
            is_code || looks_secret(value)
        }
        ValueKind::Phrase => {
            looks_secret(value) || value.iter().filter(|byte| **byte == b' ').count() >= 2
        }
    }
}

/// Whether a value is certainly no secret, whatever its name is.
pub(super) fn is_harmless(value: &[u8]) -> bool {
    value.len() <= 1
        || value.len() == 2 && value.iter().all(u8::is_ascii_digit)
        || is_reference(value)
        || is_switch_value(value)
        || is_path(value)
}

/// Whether a value refers to a secret instead of being one: `$PASSWORD`, `$(cat f)`, `{{ .token
/// }}`, `<token>`, `env:X`, `@file`, `***`.
pub(super) fn is_reference(value: &[u8]) -> bool {
    let value = value.trim_ascii();
    let Some((first, rest)) = value.split_first() else { return true };
    let is_name =
        |bytes: &[u8]| bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    match first {
        b'$' => match rest.first() {
            Some(b'{' | b'(') => matches!(rest.last(), Some(b'}' | b')')),
            Some(byte) if byte.is_ascii_alphabetic() || *byte == b'_' => is_name(rest),
            // `$1` and `$@` are references too, and a single `$` is no secret.
            _ => rest.len() <= 1,
        },
        b'`' => rest.ends_with(b"`"),
        b'%' => rest.len() > 1 && rest.ends_with(b"%") && is_name(&rest[..rest.len() - 1]),
        b'{' => rest.ends_with(b"}") && (rest.starts_with(b"{") || rest.len() <= 3),
        b'<' => rest.ends_with(b">") || rest.starts_with(b"("),
        b'[' => rest == b"redacted]",
        b'@' => rest.first().is_some_and(|byte| matches!(byte, b'/' | b'.' | b'-')),
        b'*' | b'x' | b'X' | b'.' => rest.iter().all(|byte| byte == first),
        _ => {
            const PREFIXES: [&[u8]; 12] = [
                b"env:",
                b"file:",
                b"fd:",
                b"file=",
                b"op://",
                b"ref+",
                b"arn:",
                b"vault:",
                b"keyring:",
                b"prompt:",
                b"/dev/",
                b"env.",
            ];
            PREFIXES.iter().any(|prefix| value.starts_with(prefix))
        }
    }
}

/// Whether a value is a choice and not a text: `true`, `none`, `auto`.
fn is_switch_value(value: &[u8]) -> bool {
    const CHOICES: [&[u8]; 22] = [
        b"true",
        b"false",
        b"yes",
        b"no",
        b"on",
        b"off",
        b"none",
        b"null",
        b"nil",
        b"undefined",
        b"enabled",
        b"disabled",
        b"always",
        b"never",
        b"auto",
        b"optional",
        b"required",
        b"default",
        b"prompt",
        b"ask",
        b"stdin",
        b"basic",
    ];
    (2..=9).contains(&value.len())
        && CHOICES.iter().any(|choice| value.eq_ignore_ascii_case(choice))
}

/// Whether a value is the path of a file or the name of one.
pub(super) fn is_path(value: &[u8]) -> bool {
    let starts = |prefix: &[u8]| value.starts_with(prefix);
    if starts(b"/") || starts(b"./") || starts(b"../") || starts(b"~/") || starts(b"C:\\") {
        // Base64 can begin with a slash as well.
        return !value.ends_with(b"=") && !value.contains(&b'+');
    }
    const ENDINGS: [&[u8]; 22] = [
        b".pem",
        b".key",
        b".txt",
        b".json",
        b".yaml",
        b".yml",
        b".crt",
        b".jks",
        b".p12",
        b".pfx",
        b".conf",
        b".cfg",
        b".env",
        b".toml",
        b".ini",
        b".pub",
        b".csv",
        b".gpg",
        b".asc",
        b".keytab",
        b".creds",
        b".properties",
    ];
    ENDINGS.iter().any(|ending| value.len() > ending.len() && value.ends_with(ending))
}

/// Whether a value looks like a secret: random characters, a UUID, a digest, a word with digits and
/// punctuation. Words, numbers, versions, addresses and identifiers do not.
pub(super) fn looks_secret(value: &[u8]) -> bool {
    // A text that `expect` sends ends with `\r`, the key Enter.
    let value = value.strip_suffix(b"\\r").unwrap_or(value);
    if value.len() < 6 || is_harmless(value) || contains(value, b"://") {
        return false;
    }
    is_random(value) || is_hexadecimal(value, 16) || is_uuid(value) || is_password(value)
}

/// Whether a value has a letter, a digit and a sign that identifiers, numbers and addresses do not
/// have.
fn is_password(value: &[u8]) -> bool {
    let has = |test: fn(&u8) -> bool| value.iter().any(test);
    has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic)
        && has(|byte| b"!#$%^&*+?~".contains(byte))
        && !has(|byte| byte.is_ascii_whitespace() || b"()[]{}|<>".contains(byte))
}

/// Whether letters and digits alternate more often than in words, names and numbers. Random text of
/// the 62 letters and digits changes between them, or to a capital, at a third of its positions.
pub(super) fn is_random(value: &[u8]) -> bool {
    let (mut count, mut changes, mut digits, mut upper, mut lower) = (0, 0, 0, false, false);
    let mut before = 0;
    for byte in value {
        match byte {
            b'0'..=b'9' => {
                digits += 1;
                changes += usize::from(u8::is_ascii_alphabetic(&before));
            }
            b'a'..=b'z' => {
                lower = true;
                changes += usize::from(before.is_ascii_digit());
            }
            b'A'..=b'Z' => {
                upper = true;
                changes += usize::from(before.is_ascii_digit() || before.is_ascii_lowercase());
            }
            b'+' | b'/' | b'=' | b'_' | b'-' | b'.' | b'~' => {
                before = *byte;
                continue;
            }
            _ => return false,
        }
        before = *byte;
        count += 1;
    }
    let mixed = upper && lower;
    // A long text without spaces is no word, so fewer changes are enough.
    changes * if mixed && count >= 24 { 6 } else { 4 } >= count
        && count >= if mixed { 8 } else { 12 }
        && (digits >= 2 || digits == 1 && count >= 20)
        && count > digits + 2
}

/// Whether a value is hexadecimal, with letters and digits, and has at least `least` of them.
pub(super) fn is_hexadecimal(value: &[u8], least: usize) -> bool {
    let value = value.strip_prefix(b"0x").unwrap_or(value);
    value.len() >= least
        && value.iter().all(u8::is_ascii_hexdigit)
        && value.iter().any(u8::is_ascii_digit)
        && value.iter().any(u8::is_ascii_alphabetic)
}

/// Whether a value is a UUID.
pub(super) fn is_uuid(value: &[u8]) -> bool {
    value.len() == 36
        && value.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Whether a word after an option that takes a secret is another option instead: `--verbose`, `-v`.
/// A password can begin with hyphens too, but the rest of it rarely looks like a name.
pub(super) fn is_option(word: &[u8]) -> bool {
    let name = word.strip_prefix(b"-").map(|rest| rest.strip_prefix(b"-").unwrap_or(rest));
    let Some(name) = name else { return false };
    let name = &name[..name.iter().position(|byte| *byte == b'=').unwrap_or(name.len())];
    name.first().is_none_or(u8::is_ascii_alphabetic)
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && !is_random(name)
}

/// Whether `bytes` contain `part`.
pub(super) fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
