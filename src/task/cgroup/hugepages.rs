//! The sizes of huge pages that the kernel supports, as they appear in the names of cgroup files.

use std::fs;

/// The sizes (`2MB`, `1GB`) in `/sys/kernel/mm/hugepages`, ascending. Empty if the kernel supports
/// none.
pub(super) fn sizes() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/sys/kernel/mm/hugepages") else {
        return Vec::new();
    };
    let mut sizes: Vec<u64> =
        entries.flatten().filter_map(|entry| kilobytes(entry.file_name().to_str()?)).collect();
    // The order of entries in a directory is not defined. They are sorted so that clients always
    // get the same order.
    sizes.sort_unstable();
    sizes.into_iter().map(name).collect()
}

/// The size in kB from a directory name such as `hugepages-2048kB`.
pub(super) fn kilobytes(directory: &str) -> Option<u64> {
    directory.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()
}

/// Formats a size as the kernel's `mem_fmt` does (mm/hugetlb_cgroup.c).
pub(super) fn name(kilobytes: u64) -> String {
    match kilobytes {
        1_048_576.. => format!("{}GB", kilobytes >> 20),
        1024.. => format!("{}MB", kilobytes >> 10),
        _ => format!("{kilobytes}KB"),
    }
}

#[cfg(test)]
mod tests;
