//! Tests of the pure parts; tests with real mounts are in `mod root`.

use std::fs;

use proptest::prelude::*;

use super::{options::Options, unmount::points_below, *};

fn mount(kind: &str, source: &str, options: &[&str]) -> Mount {
    let options = options.iter().map(|option| (*option).to_owned()).collect();
    Mount { kind: kind.to_owned(), source: source.to_owned(), target: String::new(), options }
}

/// As [`super::mount_all`], for mounts that need no helper.
fn mount_all(mounts: &[Mount], rootfs: &Path) -> Result<(), MountError> {
    super::mount_all(mounts, rootfs, &Reaper::default())
}

fn options(options: &[&str]) -> Options {
    Options::parse(&mount("overlay", "overlay", options)).unwrap()
}

/// Check that an option clears the flag that its opposite has set, in the order of the list.
#[test]
fn later_options_undo_earlier_ones() {
    assert_eq!(options(&["ro", "nosuid", "rw", "suid"]).flags, MsFlags::empty());
    assert_eq!(options(&["rw", "ro", "defaults"]).flags, MsFlags::MS_RDONLY);
    assert_eq!(
        options(&["rbind", "ro"]).flags,
        MsFlags::MS_BIND | MsFlags::MS_REC | MsFlags::MS_RDONLY
    );
}

/// Check that propagation is separate, because the kernel refuses it with other flags.
#[test]
fn propagation_is_a_separate_call() {
    let options = options(&["bind", "rslave", "nodev"]);
    assert_eq!(options.flags, MsFlags::MS_BIND | MsFlags::MS_NODEV);
    assert_eq!(options.propagation, MsFlags::MS_SLAVE | MsFlags::MS_REC);
}

/// Check that options that are not flags reach the file system, in order: `volatile`, `index=off`
/// and the like.
#[test]
fn options_that_are_not_flags_are_data() {
    let options = options(&["index=off", "ro", "lowerdir=/a:/b", "volatile"]);
    assert_eq!(options.data, ["index=off", "lowerdir=/a:/b", "volatile"]);
}

/// Check that an unsupported kind or option is named in the error, and nothing is mounted before.
#[test]
fn what_is_not_supported_is_named() {
    for (kind, option) in
        [("ext4", "X-containerd.dmverity"), ("overlay", "X-containerd.mkdir.path=/x")]
    {
        let error = mount_all(
            &[mount("tmpfs", "", &[]), mount(kind, "/dev/x", &[option])],
            Path::new("/nowhere"),
        );
        assert!(matches!(error, Err(MountError::Unsupported { what, .. }) if what == option));
    }
    for options in [&["uidmap=0:1:2"][..], &["gidmap=0:1:2"], &["uidmap=0:1:2", "gidmap=0:1"]] {
        let error = Options::parse(&mount("bind", "/x", options)).unwrap_err();
        assert!(error.to_string().contains("idmap"), "{error}");
    }
    for kind in ["mkfs/ext4", "format/mkdir/overlay"] {
        let error = mount_all(&[mount(kind, "x", &[])], Path::new("/nowhere"));
        assert!(matches!(error, Err(MountError::Unsupported { what, .. }) if what == kind));
    }
}

/// Check which kinds of mounts a program makes, and which kind the program gets.
#[test]
fn only_fuse_file_systems_have_a_helper() {
    let helper_of = helper::helper_of;
    assert_eq!(helper_of("fuse.sshfs"), Some(("mount.fuse", "sshfs")));
    assert_eq!(helper_of("fuse3.fuse-overlayfs"), Some(("mount.fuse3", "fuse-overlayfs")));
    for kind in ["fuse", "fuseblk", "overlay", "ext4", "fuse2.x"] {
        assert_eq!(helper_of(kind), None, "{kind}");
    }
}

fn shorten(data: &[&str]) -> (Option<PathBuf>, Vec<String>) {
    overlay::shorten(data.iter().map(|option| (*option).to_owned()).collect())
}

/// Check that lower directories become relative to the deepest directory that contains all of them.
#[test]
fn lower_directories_are_shortened_to_their_common_directory() {
    let (folder, data) = shorten(&["upperdir=/s/9/fs", "lowerdir=/s/10/fs:/s/1/fs:/s/1/fs2"]);
    assert_eq!(folder.as_deref(), Some(Path::new("/s")));
    assert_eq!(data, ["upperdir=/s/9/fs", "lowerdir=10/fs:1/fs:1/fs2"]);
    // One inside the other.
    assert_eq!(shorten(&["lowerdir=/s/1:/s/1/a/b"]).1, ["lowerdir=1:1/a/b"]);
    // A single one, as with a squashed image.
    assert_eq!(
        shorten(&["lowerdir=/s/1/fs"]),
        (Some("/s/1".into()), vec!["lowerdir=fs".to_owned()])
    );
}

/// Check that escaped colons and data-only layers keep their meaning.
#[test]
fn escapes_and_data_layers_survive_the_shortening() {
    let (folder, data) = shorten(&[r"lowerdir=/s\:x/a\:1:/s\:x/b::/s\:x/data"]);
    assert_eq!(folder.as_deref(), Some(Path::new("/s:x")));
    assert_eq!(data, [r"lowerdir=a\:1:b::data"]);
}

/// Check that options that cannot be shortened safely are unchanged.
#[test]
fn options_that_cannot_be_shortened_are_unchanged() {
    for option in ["lowerdir=/a/x:b", "lowerdir=/a:/b", "lowerdir=/s/../a/x:/s/b", "upperdir=/a"] {
        assert_eq!(shorten(&[option]), (None, vec![option.to_owned()]));
    }
}

proptest! {
    /// Check that each shortened directory, seen from the common directory, is the original one.
    #[test]
    fn a_shortened_directory_is_the_same(
        layers in prop::collection::vec("(/[a-c]{1,2}){1,4}", 1..8),
    ) {
        let (folder, data) = shorten(&[&format!("lowerdir={}", layers.join(":"))]);
        let folder = folder.unwrap_or_default();
        let seen = data[0]["lowerdir=".len()..].split(':').map(|layer| folder.join(layer));
        prop_assert!(seen.eq(layers.iter().map(PathBuf::from)), "{folder:?} {data:?}");
        prop_assert!(!data[0].contains("::") && !data[0].ends_with(':'));
    }
}

/// Check that mount points are matched by whole components and unescaped, and listed from the
/// newest.
#[test]
fn mount_points_are_listed_from_the_deepest() {
    let list = br"21 1 0:5 / / rw - ext4 /dev/a rw
40 21 0:6 / /r rw shared:1 - overlay o rw
41 40 0:7 / /r/b rw - tmpfs t rw
42 40 0:8 / /r/a\040\134n rw - tmpfs t rw
43 41 0:8 / /r/b rw - tmpfs t rw
44 21 0:9 / /root rw - tmpfs t rw
broken
";
    let found = points_below(list, Path::new("/r"));
    assert_eq!(found, [r"/r/a \n", "/r/b", "/r/b", "/r"].map(PathBuf::from));
    assert!(points_below(b"", Path::new("/r")).is_empty());
}

/// Real mounts, in the mount namespace of a separate thread. They are not visible outside, and none
/// is left.
mod root {
    use std::{os::unix::fs::symlink, thread};

    use nix::sched::{CloneFlags, unshare};
    use tempfile::TempDir;

    use super::*;

    fn isolated(test: impl FnOnce(&Path) + Send) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().canonicalize().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)
                    .expect("these tests need root");
                change_propagation(Path::new("/"), MsFlags::MS_PRIVATE | MsFlags::MS_REC).unwrap();
                fs::create_dir(path.join("rootfs")).unwrap();
                test(&path);
                unmount_recursive(&path).unwrap();
                assert_eq!(mounts(&path), [] as [PathBuf; 0]);
            });
        });
    }

    fn mounts(root: &Path) -> Vec<PathBuf> {
        points_below(&fs::read("/proc/thread-self/mountinfo").unwrap(), root)
    }

    fn tmpfs(target: &str) -> Mount {
        Mount { target: target.to_owned(), ..mount("tmpfs", "tmpfs", &["size=1m", "mode=755"]) }
    }

    fn text(path: &Path) -> &str {
        path.to_str().unwrap()
    }

    /// Check that a bind mount is read-only if its options say so, and that its source is not.
    #[test]
    fn a_bind_mount_may_be_read_only() {
        isolated(|folder| {
            let (source, rootfs) = (folder.join("source"), folder.join("rootfs"));
            fs::create_dir(&source).unwrap();
            mount_all(
                &[mount("bind", text(&source), &["rbind", "ro", "nosuid", "rprivate"])],
                &rootfs,
            )
            .unwrap();
            let refused = fs::write(rootfs.join("x"), "").unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
            assert!(statvfs(&rootfs).unwrap().flags().contains(FsFlags::ST_NOSUID));
            fs::write(source.join("x"), "").unwrap();
            assert!(rootfs.join("x").exists());
            unmount_recursive(&rootfs).unwrap();
            assert!(source.join("x").exists());
        });
    }

    /// Check that a remount changes flags, and data only if it has some.
    #[test]
    fn a_remount_changes_what_is_mounted() {
        isolated(|folder| {
            let rootfs = folder.join("rootfs");
            let twice = [tmpfs(""), mount("tmpfs", "tmpfs", &["remount", "ro", "size=2m"])];
            mount_all(&twice, &rootfs).unwrap();
            assert_eq!(mounts(&rootfs).len(), 1);
            let now = statvfs(&rootfs).unwrap();
            assert!(now.flags().contains(FsFlags::ST_RDONLY));
            assert_eq!(now.blocks() * now.fragment_size(), 2 << 20);
        });
    }

    /// Check that an overlay with more than a page of options is mounted, that its layers are in
    /// order, and that the working directory does not change (containerd issue 10811, rust
    /// extensions dafb1b6).
    #[test]
    fn an_overlay_may_have_more_options_than_a_page() {
        isolated(|folder| {
            let working_directory = std::env::current_dir().unwrap();
            // As long as containerd's path:
            // /var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots.
            let snapshots = folder.join("io.containerd.snapshotter.v1.overlayfs/snapshots");
            fs::create_dir_all(&snapshots).unwrap();
            // The upper directory of an overlay cannot be on an overlay, but a test's directory may
            // be.
            mount_all(&[mount("tmpfs", "tmpfs", &[])], &snapshots).unwrap();
            let layer = |number: usize| snapshots.join(number.to_string()).join("fs");
            for number in 0..=100 {
                fs::create_dir_all(layer(number)).unwrap();
                fs::write(layer(number).join("top"), number.to_string()).unwrap();
                fs::write(layer(number).join(number.to_string()), "").unwrap();
            }
            let (upper, work) = (snapshots.join("up"), snapshots.join("work"));
            fs::create_dir(&upper).unwrap();
            fs::create_dir(&work).unwrap();
            let lower: Vec<String> =
                (0..=100).rev().map(|number| text(&layer(number)).to_owned()).collect();
            let options = [
                format!("workdir={}", text(&work)),
                format!("upperdir={}", text(&upper)),
                format!("lowerdir={}", lower.join(":")),
            ];
            assert!(options.join(",").len() > 4096 + 2048);
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            let rootfs = folder.join("rootfs");
            mount_all(&[mount("overlay", "overlay", &options)], &rootfs).unwrap();
            assert_eq!(fs::read_to_string(rootfs.join("top")).unwrap(), "100");
            assert!((0..=100).all(|number| rootfs.join(number.to_string()).exists()));
            fs::write(rootfs.join("new"), "").unwrap();
            assert!(upper.join("new").exists());
            assert_eq!(std::env::current_dir().unwrap(), working_directory);
            unmount_recursive(&rootfs).unwrap();

            // Layers without a common directory cannot be shortened: the mount is refused, and no
            // option is cut off.
            let far: Vec<String> = (0..200).map(|number| format!("/{number:040}/fs")).collect();
            let far = mount("overlay", "overlay", &[&format!("lowerdir={}", far.join(":"))]);
            let refused = mount_all(&[far], &rootfs);
            assert!(matches!(refused, Err(MountError::TooLong { length, .. }) if length > 4096));
        });
    }

    /// Check that owners are mapped, in bind mounts and in an overlay's layers, and that only the
    /// one mount remains.
    #[test]
    fn owners_are_mapped_if_the_options_say_so() {
        use std::os::unix::fs::{MetadataExt as _, chown};
        isolated(|folder| {
            let rootfs = folder.join("rootfs");
            let layers = folder.join("layers");
            fs::create_dir(&layers).unwrap();
            mount_all(&[tmpfs("")], &layers).unwrap();
            for name in ["a", "b", "up", "work"] {
                fs::create_dir(layers.join(name)).unwrap();
            }
            for name in ["a/x", "b/y"] {
                fs::write(layers.join(name), "").unwrap();
                chown(layers.join(name), Some(7), Some(9)).unwrap();
            }
            let temporary = idmap_directories();
            let shift = ["uidmap=0:100000:65536", "gidmap=0:200000:65536"];
            let owner = |name: &str| {
                let metadata = fs::metadata(rootfs.join(name)).unwrap();
                (metadata.uid(), metadata.gid())
            };

            let bind = mount("bind", text(&layers.join("a")), &["rbind", "ro", shift[0], shift[1]]);
            mount_all(std::slice::from_ref(&bind), &rootfs).unwrap();
            assert_eq!(owner("x"), (100_007, 200_009));
            assert_eq!(
                fs::write(rootfs.join("new"), "").unwrap_err().raw_os_error(),
                Some(libc::EROFS)
            );
            unmount_recursive(&rootfs).unwrap();
            mount_all(&[bind, mount("no-such-fs", "", &[])], &rootfs).unwrap_err();
            assert!(mounts(&rootfs).is_empty());

            let layers = text(&layers);
            let options = [
                format!("lowerdir={layers}/a:{layers}/b"),
                format!("upperdir={layers}/up"),
                format!("workdir={layers}/work"),
            ];
            let options: Vec<&str> = options.iter().map(String::as_str).chain(shift).collect();
            mount_all(&[mount("overlay", "overlay", &options)], &rootfs).unwrap();
            assert_eq!((owner("x"), owner("y")), ((100_007, 200_009), (100_007, 200_009)));
            assert_eq!(mounts(&rootfs).len(), 1);
            assert_eq!(idmap_directories(), temporary);
        });
    }

    fn idmap_directories() -> usize {
        let ours = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b"lookout-idmap-");
        fs::read_dir(std::env::temp_dir())
            .unwrap()
            .filter(|entry| ours(&entry.as_ref().unwrap().file_name()))
            .count()
    }

    /// Check that a failure leaves nothing mounted, and that the error names the file system and
    /// its cause.
    #[test]
    fn a_failure_undoes_what_was_mounted() {
        isolated(|folder| {
            let rootfs = folder.join("rootfs");
            let list = [tmpfs(""), tmpfs(""), mount("no-such-fs", "nothing", &[])];
            let error = mount_all(&list, &rootfs).unwrap_err();
            assert!(error.to_string().contains("no-such-fs"), "{error}");
            let MountError::Mount { source, .. } = error else { panic!("{error}") };
            assert_eq!(source.raw_os_error(), Some(libc::ENODEV));
            assert!(mounts(&rootfs).is_empty());
        });
    }

    /// Check that a target is below the root file system, whatever symbolic links it contains.
    #[test]
    fn a_target_cannot_leave_the_root_file_system() {
        isolated(|folder| {
            let rootfs = folder.join("rootfs");
            let outside = folder.join("outside");
            fs::create_dir(&outside).unwrap();
            fs::create_dir_all(rootfs.join("data")).unwrap();
            fs::create_dir_all(rootfs.join(text(&outside).trim_start_matches('/'))).unwrap();
            symlink(&outside, rootfs.join("link")).unwrap();
            for target in ["data", "/data", "../../data", "link"] {
                mount_all(&[tmpfs(target)], &rootfs).unwrap();
                let found = mounts(folder);
                assert!(found.len() == 1 && found[0].starts_with(&rootfs), "{target}: {found:?}");
                unmount_recursive(&rootfs).unwrap();
            }
            let missing = mount_all(&[tmpfs(""), tmpfs("missing")], &rootfs).unwrap_err();
            assert!(matches!(missing, MountError::Target { target, .. } if target == "missing"));
            assert!(mounts(&rootfs).is_empty());
        });
    }

    /// Check that mounts in and over each other are all unmounted, and that a mount beside them,
    /// with the same prefix in its path, is not.
    #[test]
    fn everything_below_is_unmounted_and_nothing_else() {
        isolated(|folder| {
            let (rootfs, beside) = (folder.join("rootfs"), folder.join("rootfs2"));
            fs::create_dir(&beside).unwrap();
            mount_all(&[tmpfs("")], &beside).unwrap();
            mount_all(&[tmpfs("")], &rootfs).unwrap();
            fs::create_dir_all(rootfs.join("a b\n\\/c")).unwrap();
            mount_all(&[tmpfs("a b\n\\")], &rootfs).unwrap();
            fs::create_dir(rootfs.join("a b\n\\/d")).unwrap();
            mount_all(&[tmpfs("a b\n\\/d")], &rootfs).unwrap();
            // Two more mounts over all of these.
            mount_all(&[tmpfs(""), tmpfs("")], &rootfs).unwrap();
            assert_eq!(mounts(&rootfs).len(), 5);
            unmount_recursive(&rootfs).unwrap();
            assert!(mounts(&rootfs).is_empty());
            assert_eq!(mounts(&beside).len(), 1);
            // With nothing mounted, and with a path that does not exist.
            unmount_recursive(&rootfs).unwrap();
            unmount_recursive(&folder.join("missing")).unwrap();
        });
    }

    /// Check that a mount in use is detached in bounded time.
    #[test]
    fn a_busy_mount_is_detached() {
        isolated(|folder| {
            let rootfs = folder.join("rootfs");
            mount_all(&[tmpfs("")], &rootfs).unwrap();
            let in_use = fs::File::create(rootfs.join("x")).unwrap();
            let begun = std::time::Instant::now();
            unmount_recursive(&rootfs).unwrap();
            assert!(mounts(&rootfs).is_empty());
            assert!(begun.elapsed().as_secs() < 2);
            drop(in_use);
        });
    }
}
