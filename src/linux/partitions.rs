//! The names of block devices: `/proc/partitions` (proc(5)).

use std::{collections::HashMap, fs};

/// The first name of each device, by its major and minor number. Empty if the file cannot be read.
pub(crate) fn names() -> HashMap<(u64, u64), String> {
    parse(&fs::read("/proc/partitions").unwrap_or_default())
}

/// Each line has major, minor, blocks and name. A line that cannot be parsed, such as the header,
/// is skipped.
pub(super) fn parse(content: &[u8]) -> HashMap<(u64, u64), String> {
    let mut names = HashMap::new();
    for line in content.split(|byte| *byte == b'\n').filter_map(|line| str::from_utf8(line).ok()) {
        let mut words = line.split_ascii_whitespace();
        let (major, minor, name) = (words.next(), words.next(), words.nth(1));
        if let (Some(Ok(major)), Some(Ok(minor)), Some(name)) =
            (major.map(str::parse), minor.map(str::parse), name)
        {
            names.entry((major, minor)).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that the header is skipped and that the first name of a device is used.
    #[test]
    fn devices_have_their_first_name() {
        let names =
            parse(b"major minor  #blocks  name\n\n 254        0  268435456 vda\n 254 0 1 later\n");
        assert_eq!(names, HashMap::from([((254, 0), "vda".to_owned())]));
    }
}
