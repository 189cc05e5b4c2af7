use super::*;

/// Check that sizes are spelt as the kernel spells them in file names.
#[test]
fn sizes_are_spelt_as_in_file_names() {
    let spelt = |folder| kilobytes(folder).map(name);
    assert_eq!(spelt("hugepages-64kB").as_deref(), Some("64KB"));
    assert_eq!(spelt("hugepages-2048kB").as_deref(), Some("2MB"));
    assert_eq!(spelt("hugepages-1048576kB").as_deref(), Some("1GB"));
    assert_eq!(spelt("hugepages-16777216kB").as_deref(), Some("16GB"));
    assert_eq!(spelt("other"), None);
}
