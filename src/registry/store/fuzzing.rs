//! The fuzz target of the registry's file.

use super::{Change, FILE_SCHEMA, Registry, encode_line, parse_file};

/// Reads a file, and again what a rewrite would make of it. If the first byte is `c`, each line of
/// the input gets the checksum that it needs to be read.
pub(crate) fn file(bytes: &[u8]) {
    let Some((kind, text)) = bytes.split_first() else { return };
    let mut text = if *kind == b'c' { with_checksums(text) } else { text.to_vec() };
    let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let (read, lines) = parse_file(&mut text[..end]);
    assert!(read.damaged_lines <= lines && read.registry.len() <= text.len());
    let (again, _) = parse_file(&mut rewritten(&read.registry));
    assert_eq!(again.damaged_lines, 0);
    assert!(again.registry.iter().eq(read.registry.iter()));
    assert_eq!(again.registry.last_id(), read.registry.last_id());
    assert_eq!(again.registry.living_count(), read.registry.living_count());
}

fn with_checksums(text: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        match serde_json::from_slice::<Vec<Change>>(line) {
            Ok(changes) if !changes.is_empty() => {
                encode_line(&changes, &mut file).expect("a change is JSON");
            }
            _ => file.extend_from_slice(&[line, b"\n"].concat()),
        }
    }
    file
}

/// The lines that a rewrite of the file would have.
fn rewritten(registry: &Registry) -> Vec<u8> {
    let begin = Change::Begin { schema: FILE_SCHEMA, last_id: registry.last_id() };
    let entries = registry.iter().map(|entry| Change::Add(Box::new(entry.clone())));
    let mut text = Vec::new();
    for change in [begin].into_iter().chain(entries) {
        encode_line(&[change], &mut text).expect("a change is JSON");
    }
    text
}
