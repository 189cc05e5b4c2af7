//! Untrusted text in a form that is safe to print on a terminal, arguments as a command line, and
//! the characters that are unsafe to print.

/// Escapes text for printing: unsafe characters (see [`is_unsafe_to_print`]) and bytes that are not
/// UTF-8. If anything is escaped, backslashes are doubled, so that the result is unambiguous.
#[must_use]
pub fn safe_text(bytes: &[u8]) -> String {
    let is_harmless =
        std::str::from_utf8(bytes).is_ok_and(|text| !text.contains(is_unsafe_to_print));
    let mut out = String::with_capacity(bytes.len());
    if is_harmless {
        out.push_str(&String::from_utf8_lossy(bytes));
    } else {
        escape_into(bytes, &mut out);
    }
    out
}

/// Joins arguments to a command line that bash would parse into the same arguments. Safe to print.
#[must_use]
pub fn command_line<'a>(args: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut out = String::new();
    for (index, arg) in args.into_iter().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        quote_argument(arg, &mut out);
    }
    out
}

/// Appends one argument to `out`, quoted for bash if it needs quotes.
fn quote_argument(arg: &[u8], out: &mut String) {
    let is_plain =
        |character: char| character.is_alphanumeric() || "_./:=@%+,-".contains(character);
    match std::str::from_utf8(arg) {
        Ok(text) if !text.is_empty() && text.chars().all(is_plain) => out.push_str(text),
        Ok(text) if !text.contains(is_unsafe_to_print) => {
            out.push('\'');
            out.push_str(&text.replace('\'', r"'\''"));
            out.push('\'');
        }
        Ok(_) | Err(_) => {
            out.push_str("$'");
            let start = out.len();
            escape_into(arg, out);
            let escaped = out.split_off(start).replace('\'', r"\'");
            out.push_str(&escaped);
            out.push('\'');
        }
    }
}

/// Appends `bytes` to `out`, with unsafe characters and bytes that are not UTF-8 escaped.
fn escape_into(bytes: &[u8], out: &mut String) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\r' => out.push_str("\\r"),
                _ if character.is_ascii_control() => {
                    out.push_str(&format!("\\x{:02x}", u32::from(character)))
                }
                // In bash `\u` takes at most four digits, and `\U` eight.
                '\u{10000}'.. if is_unsafe_to_print(character) => {
                    out.push_str(&format!("\\U{:08x}", u32::from(character)))
                }
                _ if is_unsafe_to_print(character) => {
                    out.push_str(&format!("\\u{:04x}", u32::from(character)))
                }
                _ => out.push(character),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
}

/// Whether a character is unsafe to print, because it controls a terminal or misleads a reader:
/// control characters (C0, DEL, C1), the overrides and isolates of Unicode's bidirectional
/// algorithm (UAX #9), line separators, and invisible characters.
#[must_use]
pub fn is_unsafe_to_print(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            // Tag characters: invisible, and able to carry hidden ASCII.
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Check the quoting of ordinary and of hostile arguments.
    #[test]
    fn arguments_are_quoted_for_bash() {
        let args: [&[u8]; 7] = [
            b"/bin/sh",
            b"-c",
            b"echo it's",
            b"",
            b"a\x1b[2Jb\n'",
            b"\xff\\",
            "\u{202e}é\u{9b}\u{e0041}".as_bytes(),
        ];
        assert_eq!(
            command_line(args),
            r"/bin/sh -c 'echo it'\''s' '' $'a\x1b[2Jb\n\'' $'\xff\\' $'\u202eé\u009b\U000e0041'"
        );
        assert_eq!(safe_text(b"C:\\x"), "C:\\x");
        assert_eq!(safe_text(b"C:\\x\x07"), "C:\\\\x\\x07");
    }

    proptest! {
        /// Check that the output never has a control character, a bidirectional override or invalid
        /// UTF-8, for any input.
        #[test]
        fn the_output_has_no_unsafe_characters(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            characters in "[\\PC\u{0}-\u{a0}\u{200b}-\u{206f}\u{e0000}-\u{e007f}]{0,32}",
        ) {
            for input in [&bytes[..], characters.as_bytes()] {
                prop_assert!(!safe_text(input).contains(is_unsafe_to_print));
                prop_assert!(!command_line([input, input]).contains(is_unsafe_to_print));
            }
        }
    }
}
