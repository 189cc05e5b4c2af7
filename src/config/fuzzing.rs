//! The fuzz target of configuration: the file, runtime options and annotations.

use std::hint::black_box;
use std::path::PathBuf;

use super::{Config, Key, Origin, PATTERNS_MAX, file};

/// Reads a configuration file and applies its values to the host or to a container. The first byte
/// is `j` for JSON and `t` for TOML; an `a` before it makes the values annotations, an `o` options,
/// and then the host's own file can precede them, up to a line `%`.
pub(crate) fn file(bytes: &[u8]) {
    let (role, bytes) = match bytes.split_first() {
        Some((role @ (b'a' | b'o'), rest)) => (*role, rest),
        _ => (b'h', bytes),
    };
    let Some((format, text)) = bytes.split_first() else { return };
    let Ok(text) = str::from_utf8(text) else { return };
    let parse = |text: &str| match format {
        b'j' => file::parse_json(text),
        _ => file::parse_toml(text),
    };
    let (of_host, text) = match text.split_once("\n%\n") {
        Some((of_host, text)) if role != b'h' => (of_host, text),
        _ => ("", text),
    };
    let mut config = Config::default();
    for (name, text) in parse(of_host).unwrap_or_default() {
        let _ = config.set_for_host(&name, &text, Origin::File(PathBuf::from("/c.toml")));
    }
    let Ok(entries) = parse(text) else { return };
    // A seed of the corpus locks the key.
    for (name, text) in &entries {
        let _ = match role {
            b'a' => config.set_for_container(name, text, Origin::Annotation, "default"),
            b'o' => config.set_for_container(name, text, Origin::Option, "default"),
            _ => config.set_for_host(name, text, Origin::File(PathBuf::from("/c.toml"))),
        };
    }
    assert!(role == b'h' || config.settings.redact.len() <= PATTERNS_MAX);
    for key in Key::ALL {
        black_box((config.origin(key).to_string(), config.settings.show(key)));
    }
}
