use super::*;

const HYBRID: &[u8] = b"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";

const UNIFIED: &[u8] =
    b"25 30 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate
99 30 0:77 / /sys/fs/cgroup/net_cls rw - cgroup net_cls rw,net_cls
";

fn only(line: &str) -> Mount {
    let mut mounts = cgroup_mounts(line.as_bytes());
    assert_eq!(mounts.len(), 1, "{line}");
    mounts.remove(0)
}

/// Check that controllers that share a mount, and named hierarchies, are each found.
#[test]
fn controllers_that_share_a_mount_are_found_by_each_name() {
    let mounts = cgroup_mounts(HYBRID);
    let point = |controller| {
        mounts
            .iter()
            .find(|mount| mount.has_controller(controller))
            .map(|mount| mount.point.clone())
    };
    assert_eq!(point("cpu"), Some("/sys/fs/cgroup/cpu,cpuacct".into()));
    assert_eq!(point("cpuacct"), Some("/sys/fs/cgroup/cpu,cpuacct".into()));
    assert_eq!(point("name=systemd"), Some("/sys/fs/cgroup/systemd".into()));
    assert_eq!(point("systemd"), None);
    assert_eq!(point("pids"), None);
}

/// Check that a hybrid host counts as version 1, and that a unified host with one version 1
/// controller counts as version 2.
#[test]
fn the_mount_on_top_decides_the_version() {
    assert_eq!(version(&cgroup_mounts(HYBRID)), Version::V1);
    assert_eq!(version(&cgroup_mounts(UNIFIED)), Version::V2);
    assert_eq!(version(&cgroup_mounts(b"25 30 0:22 / /mnt/cg rw - cgroup2 none rw")), Version::V2);
}

/// Check that an incomplete line does not hide the others, and that a name need not be UTF-8.
#[test]
fn an_incomplete_line_does_not_hide_the_others() {
    let mut strange =
        b"1 2 0:3 / /mnt/\xff\xfe rw - cgroup cgroup rw,cpu\n3 4 - cgroup\n\n".to_vec();
    strange.extend_from_slice(HYBRID);
    assert_eq!(cgroup_mounts(&strange).len(), 5);
}

/// Check that a bind mount of an outer container's cgroup maps the paths below it, and only those.
#[test]
fn a_mount_of_a_part_maps_only_what_is_below_it() {
    let mount = only("1 2 0:3 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory");
    assert_eq!(
        mount.directory(Path::new("/docker/abc/default/web")),
        Some("/sys/fs/cgroup/memory/default/web".into())
    );
    assert_eq!(mount.directory(Path::new("/docker/abcd/default/web")), None);
    assert_eq!(mount.directory(Path::new("/default/web")), None);
}

/// Check that the root of a mount is never used as the cgroup of a container.
#[test]
fn the_root_of_a_mount_is_not_the_cgroup_of_a_container() {
    let host = only("1 2 0:3 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory");
    assert_eq!(host.directory(Path::new("/")), None);
    assert_eq!(
        host.directory(Path::new("/default/web")),
        Some("/sys/fs/cgroup/memory/default/web".into())
    );
    let part = only("1 2 0:3 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory");
    assert_eq!(part.directory(Path::new("/docker/abc")), None);
}

/// Check that a path above the root of the cgroup namespace resolves only in a mount that shows it.
#[test]
fn a_path_above_the_namespace_resolves_only_in_a_mount_that_shows_it() {
    let inside = only("1 2 0:3 / /sys/fs/cgroup rw - cgroup2 cgroup rw");
    assert_eq!(inside.directory(Path::new("/../other")), None);
    let above = only("1 2 0:3 /.. /sys/fs/cgroup rw - cgroup2 cgroup rw");
    assert_eq!(above.directory(Path::new("/../other")), Some("/sys/fs/cgroup/other".into()));
    assert_eq!(above.directory(Path::new("/../../other")), None);
    assert_eq!(above.directory(Path::new("/web")), None);
}

/// Check that the kernel's escapes in mount points are decoded.
#[test]
fn escaped_mount_points_are_unescaped() {
    let mount = only(r"1 2 0:3 / /mnt/a\040b\134c\01 rw - cgroup2 cgroup rw");
    assert_eq!(mount.point, Path::new(r"/mnt/a b\c\01"));
}

/// Check that no mountinfo makes the parser panic, whatever a mount is called.
#[test]
fn no_mountinfo_panics() {
    proptest::proptest!(|(root in "[/.\\\\0-9a]{0,12}", cgroup in "[/.a]{0,8}")| {
        let line = format!("1 2 0:3 {root} /mnt/{root} rw - cgroup2 cgroup rw");
        for mount in cgroup_mounts(line.as_bytes()) {
            let directory = mount.directory(Path::new(&cgroup));
            let is_below =
                |path: PathBuf| path.starts_with(&mount.point) && path != mount.point;
            proptest::prop_assert!(directory.is_none_or(is_below));
        }
    });
}
