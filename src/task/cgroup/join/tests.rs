use super::*;

/// Check that every hierarchy that has the cgroup is joined, and the others are skipped.
#[test]
fn every_hierarchy_that_has_the_cgroup_is_joined() {
    let root = tempfile::tempdir().unwrap();
    for folder in ["memory/shims", "pids/shims", "cpu"] {
        fs::create_dir_all(root.path().join(folder)).unwrap();
        fs::write(root.path().join(folder).join("cgroup.procs"), "").unwrap();
    }
    let points = ["memory", "pids", "cpu"].map(|controller| root.path().join(controller));
    join_below(points.into_iter(), "/shims", 42).unwrap();
    let procs =
        |folder: &str| fs::read_to_string(root.path().join(folder).join("cgroup.procs")).unwrap();
    assert_eq!((procs("memory/shims").as_str(), procs("pids/shims").as_str()), ("42", "42"));
    assert_eq!(procs("cpu"), "");
}

/// Check that a cgroup that exists in no hierarchy is named in the error.
#[test]
fn a_missing_cgroup_is_named() {
    let error = join("/lookout-no-such-cgroup", 1).unwrap_err();
    assert!(error.to_string().contains("/lookout-no-such-cgroup"), "{error}");
    assert!(error.is_not_found());
}

/// Check that a path out of the mount or to its root is refused.
#[test]
fn a_path_out_of_the_hierarchy_is_refused() {
    for path in ["", "/", "/..", "/a/../../b", "/.."] {
        assert!(matches!(join(path, 1), Err(CgroupError::NotFound { .. })), "{path:?}");
    }
}
