use std::path::Path;

use proptest::prelude::*;

use super::*;

const MOUNTS: &[u8] = b"1 0 8:1 / / rw - ext4 /dev/x rw
30 1 0:26 / /c rw shared:4 - cgroup2 cgroup2 rw,nsdelegate
31 1 0:27 / /v1/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 1 0:28 /below /v1/with\\040space rw - cgroup cgroup rw,xattr,name=systemd
";

/// Check that a cgroup is recognised only in the line of its own hierarchy, and that a longer name
/// is not confused with it.
#[test]
fn a_cgroup_is_compared_in_its_own_hierarchy() {
    let text = Memberships::parse(b"3:cpu,cpuacct:/a/b\n1:name=systemd:/below/x\n0::/a\n");
    let cgroup = |path: &str| CgroupPath::find(Path::new(path), MOUNTS).unwrap();
    assert_eq!(cgroup("/c/a").relation(&text), Some(Relation::Inside));
    assert_eq!(cgroup("/c/a/b").relation(&text), None);
    assert_eq!(cgroup("/c").relation(&text), Some(Relation::Below("/c/a".into())));
    assert_eq!(
        cgroup("/v1/cpu,cpuacct/a").relation(&text),
        Some(Relation::Below("/v1/cpu,cpuacct/a/b".into()))
    );
    assert_eq!(cgroup("/v1/cpu,cpuacct/a/").relation(&Memberships::parse(b"3:cpu:/ab\n")), None);
    assert_eq!(cgroup("/v1/with space/x").relation(&text), Some(Relation::Inside));
    assert!(CgroupPath::find(Path::new("/home"), MOUNTS).is_none(), "no cgroup file system");
}

/// Check that a name that is not UTF-8 hides neither its own line nor the others.
#[test]
fn a_name_that_is_not_utf8_hides_no_membership() {
    let text = Memberships::parse(b"3:cpu,cpuacct:/a/\xff\xfe\n1:name=systemd:/x\n0::/a/\xff\n");
    let cgroup = |path: &str| CgroupPath::find(Path::new(path), MOUNTS).unwrap();
    assert!(matches!(cgroup("/c/a").relation(&text), Some(Relation::Below(_))));
    assert!(matches!(cgroup("/v1/cpu,cpuacct/a").relation(&text), Some(Relation::Below(_))));
    assert_eq!(text.iter().count(), 3);
    assert_eq!(text.path("name=systemd"), Some(Path::new("/x")));
    assert_eq!(text.path("memory"), None);
}

proptest! {
    /// Check that no bytes can panic a parser.
    #[test]
    fn any_bytes_are_parsed(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = CgroupPath::find(Path::new("/sys/fs/cgroup/a"), &bytes);
        let memberships = Memberships::parse(&bytes);
        let _ = memberships.iter().count();
        let _ = CgroupPath::find(Path::new("/c/a"), MOUNTS).unwrap().relation(&memberships);
    }
}
