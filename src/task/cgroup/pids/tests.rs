use std::path::Path;

use super::*;

fn procs(folder: &Path, content: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("cgroup.procs"), content).unwrap();
}

/// Check that nested cgroups are included, and that pids are sorted numerically and listed once.
#[test]
fn pids_are_sorted_and_listed_once() {
    let folder = tempfile::tempdir().unwrap();
    procs(folder.path(), "300\n20\n0\n");
    procs(&folder.path().join("a"), "7\n20\n");
    procs(&folder.path().join("a/b"), "4000\n");
    assert_eq!(list(&Dir::new(folder.path().to_owned())).unwrap(), [7, 20, 300, 4000]);
}

/// Check that a nested cgroup that is being removed is skipped, and that the container's own cgroup
/// must exist.
#[test]
fn only_the_containers_own_cgroup_must_exist() {
    let folder = tempfile::tempdir().unwrap();
    procs(folder.path(), "1\n");
    fs::create_dir(folder.path().join("removed")).unwrap();
    let dir = Dir::new(folder.path().to_owned());
    assert_eq!(list(&dir).unwrap(), [1]);
    fs::remove_file(folder.path().join("cgroup.procs")).unwrap();
    assert!(matches!(list(&dir), Err(CgroupError::NotFound { .. })));
}
