use super::*;

/// Check that the tree is visited whole, or as much of it as was asked for, each directory once.
#[test]
fn no_more_directories_are_visited_than_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a/b/c", "d", "e/f"] {
        fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("cgroup.procs"), "").unwrap();
    let root = Dir::new(folder.path().to_owned());
    let visited = |most| {
        let mut visited: Vec<_> = root.tree(most).map(|dir| dir.unwrap().0).collect();
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

/// Check that a directory that is not there has nothing below it and is no error.
#[test]
fn a_directory_that_is_gone_has_nothing_below() {
    let gone = Dir::new("/nonexistent/lookout".into());
    assert_eq!(gone.tree(usize::MAX).filter_map(Result::ok).count(), 1);
    assert!(!gone.exists());
}
