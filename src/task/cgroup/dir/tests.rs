use super::*;

/// Check that each directory of the tree is visited once, and no more of them than requested.
#[test]
fn no_more_directories_are_visited_than_requested() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a/b/c", "d", "e/f"] {
        fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("cgroup.procs"), "").unwrap();
    let root = Dir::new(folder.path().to_owned());
    let visited = |max| {
        let mut visited: Vec<_> = root.tree(max).map(|dir| dir.unwrap().0).collect();
        let count = visited.len();
        visited.sort_unstable();
        visited.dedup();
        assert_eq!(visited.len(), count, "each once");
        count
    };
    assert_eq!(visited(usize::MAX), 7);
    assert_eq!(visited(3), 3);
    assert_eq!(visited(1), 1);
}

/// Check that a directory that does not exist has no children and causes no error.
#[test]
fn a_missing_directory_has_no_children() {
    let gone = Dir::new("/nonexistent/lookout".into());
    assert_eq!(gone.tree(usize::MAX).filter_map(Result::ok).count(), 1);
    assert!(!gone.exists());
}
