use super::*;

fn cgroup(folder: &Path, controllers: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("cgroup.controllers"), controllers).unwrap();
    fs::write(folder.join("cgroup.subtree_control"), "").unwrap();
}

/// Check that a missing controller is enabled in every ancestor, and never in the container itself.
#[test]
fn a_missing_controller_is_enabled_in_every_ancestor() {
    let root = tempfile::tempdir().unwrap();
    let (pod, web) = (root.path().join("pod"), root.path().join("pod/web"));
    cgroup(root.path(), "cpu memory pids\n");
    cgroup(&pod, "cpu pids\n");
    cgroup(&web, "cpu pids\n");
    enable(&Dir::new(web.clone()), root.path()).unwrap();
    let written =
        |folder: &Path| fs::read_to_string(folder.join("cgroup.subtree_control")).unwrap();
    assert_eq!(written(root.path()), "+memory");
    assert_eq!(written(&pod), "+memory");
    assert_eq!(written(&web), "");
}

/// Check that a container that has every controller causes no write.
#[test]
fn nothing_is_written_if_no_controller_is_missing() {
    let root = tempfile::tempdir().unwrap();
    cgroup(root.path(), "cpu memory\n");
    cgroup(&root.path().join("web"), "memory cpu\n");
    enable(&Dir::new(root.path().join("web")), root.path()).unwrap();
    assert_eq!(fs::read(root.path().join("cgroup.subtree_control")).unwrap(), b"");
}
