//! The fuzz target of configuration: the file, runtime options and annotations.

use std::hint::black_box;
use std::path::PathBuf;

use super::{Config, Key, Origin, PATTERNS_MAX, file};

/// Reads a configuration file and applies its values to the host and to a container. The first byte
/// is `j` for JSON and `t` for TOML; an `a` before it makes the values annotations, an `o` options.
pub(crate) fn file(bytes: &[u8]) {
    let (role, bytes) = match bytes.split_first() {
        Some((role @ (b'a' | b'o'), rest)) => (*role, rest),
        _ => (b'h', bytes),
    };
    let Some((format, text)) = bytes.split_first() else { return };
    let Ok(text) = str::from_utf8(text) else { return };
    let parsed = match format {
        b'j' => file::parse_json(text),
        _ => file::parse_toml(text),
    };
    let Ok(entries) = parsed else { return };
    // A seed of the corpus locks the key.
    let mut config = Config::default();
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
