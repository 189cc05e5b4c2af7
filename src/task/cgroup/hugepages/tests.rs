use super::*;

/// Check that sizes have the format of the kernel's file names.
#[test]
fn sizes_are_formatted_as_in_file_names() {
    let formatted = |folder| kilobytes(folder).map(name);
    assert_eq!(formatted("hugepages-64kB").as_deref(), Some("64KB"));
    assert_eq!(formatted("hugepages-2048kB").as_deref(), Some("2MB"));
    assert_eq!(formatted("hugepages-1048576kB").as_deref(), Some("1GB"));
    assert_eq!(formatted("hugepages-16777216kB").as_deref(), Some("16GB"));
    assert_eq!(formatted("other"), None);
}
