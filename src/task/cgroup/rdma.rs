//! Parses `rdma.current` and `rdma.max`, which have the same format in both versions.

use super::file_format;

/// The usage or the limits of one RDMA device, by the file that was parsed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Usage<'a> {
    /// The device's name, such as `mlx4_0`.
    pub(super) device: &'a str,
    /// Number of handles of the host channel adapter; `u32::MAX` for no limit.
    pub(super) handles: u32,
    /// Number of objects of the host channel adapter; `u32::MAX` for no limit.
    pub(super) objects: u32,
}

/// Parses lines such as `mlx4_0 hca_handle=2 hca_object=max`.
pub(super) fn parse(content: &[u8]) -> impl Iterator<Item = Usage<'_>> {
    file_format::lines(content).filter_map(|line| {
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
