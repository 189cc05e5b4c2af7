use proptest::prelude::*;

use super::*;

const HYBRID: &[u8] = b"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 master:2 - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 /a /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";

/// Check that each field is found for any number of optional fields before it.
#[test]
fn optional_fields_do_not_shift_the_others() {
    let mounts: Vec<Mount<'_>> = parse(HYBRID).collect();
    assert_eq!(mounts.iter().map(|mount| mount.id).collect::<Vec<_>>(), [31, 32, 40, 41]);
    assert_eq!(mounts[1].point, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
    assert_eq!((mounts[1].kind, mounts[3].root.as_path()), (&b"cgroup"[..], Path::new("/a")));
    assert!(mounts[1].has_option("cpuacct") && !mounts[1].has_option("acct"));
    assert!(mounts[2].has_option("name=systemd") && !mounts[2].has_option("systemd"));
}

/// Check that an incomplete line does not hide the others, and that a name may have any byte.
#[test]
fn an_incomplete_line_does_not_hide_the_others() {
    let mut strange =
        b"1 2 0:3 / /mnt/\xff\xfe rw - cgroup cgroup rw,cpu\n3 4 - cgroup\n\n".to_vec();
    strange.extend_from_slice(HYBRID);
    let mounts: Vec<Mount<'_>> = parse(&strange).collect();
    assert_eq!(mounts.len(), 5);
    assert_eq!(mounts[0].point.as_os_str().as_encoded_bytes(), b"/mnt/\xff\xfe");
}

/// Check the escapes of the kernel, and texts that only resemble one.
#[test]
fn names_are_unescaped_as_the_kernel_escapes_them() {
    let cases = [
        (&br"/a\040b\011c\012d\134e"[..], &b"/a b\tc\nd\\e"[..]),
        (br"/a\04", br"/a\04"),
        (br"/a\+40", br"/a\+40"),
        (br"/a\049", br"/a\049"),
        (br"/a\777", br"/a\777"),
        (br"\", br"\"),
    ];
    for (escaped, plain) in cases {
        assert_eq!(unescape(escaped).as_os_str().as_encoded_bytes(), plain);
    }
}

/// Check that the deepest mount is visible, and of several on one directory the last.
#[test]
fn the_last_mount_on_a_directory_covers_the_others() {
    let mounts = b"1 0 8:1 / / rw - ext4 /dev/x rw
2 1 0:2 / /a rw - tmpfs x rw
3 2 0:3 / /a rw - tmpfs y rw
";
    let shown = |path: &str| shown_at(mounts, Path::new(path)).map(|mount| mount.id);
    assert_eq!((shown("/a/b"), shown("/ab"), shown("/")), (Some(3), Some(1), Some(1)));
    assert_eq!(shown("relative"), None);
}

proptest! {
    /// Check that no bytes can panic the parser.
    #[test]
    fn any_bytes_are_parsed(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes).count();
    }

    /// Check that what the kernel escapes is unescaped to the name.
    #[test]
    fn unescaping_inverts_the_kernels_escaping(
        name in proptest::collection::vec(1..=255_u8, 0..30),
    ) {
        let escaped: Vec<u8> = name
            .iter()
            .flat_map(|byte| match byte {
                b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
                byte => vec![*byte],
            })
            .collect();
        let unescaped = unescape(&escaped);
        prop_assert_eq!(unescaped.as_os_str().as_encoded_bytes(), &name[..]);
    }
}
