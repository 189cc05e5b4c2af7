use std::path::Path;

use super::*;

const HYBRID: &[u8] = b"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

const UNIFIED: &[u8] =
    b"25 30 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

fn find(cgroup: &[u8], mountinfo: &[u8], exists: impl Fn(&Dir) -> bool) -> Option<Location> {
    Location::find(&Memberships::parse(cgroup), &mount::cgroup_mounts(mountinfo), exists)
}

/// Check that each controller of a hybrid host is found in its own directory.
#[test]
fn a_hybrid_host_has_a_directory_for_each_controller() {
    let cgroup = b"9:name=systemd:/\n7:cpu,cpuacct:/default/web\n4:memory:/default/web\n\
        3:devices:/default/web\n0::/\n";
    let location = find(cgroup, HYBRID, |_| true).unwrap();
    assert_eq!(location.memory().unwrap().path(), Path::new("/sys/fs/cgroup/memory/default/web"));
    assert_eq!(location.procs_dir().path(), Path::new("/sys/fs/cgroup/devices/default/web"));
    let Location::V1(hierarchies) = &location else { panic!("{location:?}") };
    let cpu = controller_dir(hierarchies, "cpuacct").unwrap();
    assert_eq!(cpu.path(), Path::new("/sys/fs/cgroup/cpu,cpuacct/default/web"));
    assert_eq!(controller_dir(hierarchies, "name=systemd"), None, "the root is not a container's");
}

/// Check that an init that has ended, which version 1 moves to `/`, does not get the cgroup of the
/// host.
#[test]
fn a_process_that_has_ended_is_not_given_the_root_cgroup() {
    assert_eq!(find(b"4:memory:/\n3:devices:/\n0::/\n", HYBRID, |_| true), None);
    assert_eq!(find(b"0::/\n", UNIFIED, |_| true), None);
}

/// Check that the unified hierarchy is used if it has the controllers.
#[test]
fn a_unified_host_has_one_directory() {
    let location = find(b"0::/system.slice/web.scope\n", UNIFIED, |_| true).unwrap();
    let dir = Dir::new("/sys/fs/cgroup/system.slice/web.scope".into());
    assert_eq!(location, Location::V2 { dir, mount: "/sys/fs/cgroup".into() });
}

/// Check that a removed cgroup, which the kernel marks as deleted, has no directory.
#[test]
fn a_deleted_cgroup_has_no_directory() {
    let exists = |dir: &Dir| dir.path() == Path::new("/sys/fs/cgroup/default/web");
    assert_eq!(find(b"0::/default/web (deleted)\n", UNIFIED, exists), None);
    assert!(find(b"0::/default/web\n", UNIFIED, exists).is_some());
}

/// Check that a mount that does not show the cgroup is skipped.
#[test]
fn the_mount_that_shows_the_cgroup_is_used() {
    let twice = b"1 2 0:32 /other /mnt/part rw - cgroup cgroup rw,memory
2 2 0:32 / /mnt/covered rw - cgroup cgroup rw,memory
3 2 0:32 / /mnt/whole rw - cgroup cgroup rw,memory
";
    let exists = |dir: &Dir| !dir.path().starts_with("/mnt/covered");
    let location = find(b"4:memory:/default/web\n", twice, exists).unwrap();
    assert_eq!(location.memory().unwrap().path(), Path::new("/mnt/whole/default/web"));
}
