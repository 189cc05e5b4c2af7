//! `rdma.current` and `rdma.max`, which both versions write alike.

use super::content;

/// What one device has in use, or may have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Usage<'a> {
    /// The device's name, `mlx4_0`.
    pub(super) device: &'a str,
    /// Handles of the host channel adapter; `u32::MAX` for no limit.
    pub(super) handles: u32,
    /// Its objects; `u32::MAX` for no limit.
    pub(super) objects: u32,
}

/// Parses `mlx4_0 hca_handle=2 hca_object=max` on each line.
pub(super) fn parse(content: &[u8]) -> impl Iterator<Item = Usage<'_>> {
    content::lines(content).filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let mut usage = Usage { device: words.next()?, handles: 0, objects: 0 };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let value = match value {
                "max" => u32::MAX,
                value => value.parse().unwrap_or_default(),
            };
            match key {
                "hca_handle" => usage.handles = value,
                "hca_object" => usage.objects = value,
                _ => {}
            }
        }
        Some(usage)
    })
}

#[cfg(test)]
mod tests;
