use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn own(namespace: &str, shim_id: &str) -> Registration {
    let pid = i32::try_from(std::process::id()).expect("a pid");
    Registration {
        namespace: namespace.into(),
        id: shim_id.into(),
        pid,
        start: start_ticks(pid).expect("this process runs"),
        address: "unix:///run/s".into(),
        epoch: "e1".into(),
        version: "1".into(),
    }
}

fn living(dir: &Path) -> Vec<Registration> {
    registrations(dir, None).expect("the directory can be read")
}

/// Check that written registrations are read, sorted, with namespace and id from the path.
#[test]
fn written_registrations_are_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let all = [own("default", "web"), own("k8s.io", "a"), own("k8s.io", "b")];
    all.iter().rev().for_each(|registration| registration.write(dir.path()).expect("written"));
    assert_eq!(living(dir.path()), all);
}

/// Check the documented fields of the file, and that only its owner can read it.
#[test]
fn the_file_has_the_documented_fields_and_modes() {
    let dir = tempfile::tempdir().expect("a folder");
    let registration = Registration { pid: 5, start: 7, ..own("default", "web") };
    registration.write(dir.path()).expect("written");
    let file = dir.path().join("shims/default/web.json");
    let text = fs::read_to_string(&file).expect("a file");
    insta::assert_snapshot!(
        text,
        @r#"{"pid":5,"start":7,"address":"unix:///run/s","epoch":"e1","version":"1"}"#
    );
    let mode = |path: &Path| fs::metadata(path).expect("it exists").permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().expect("a folder"))), (0o600, 0o700));
}

/// Check that a dead shim is ignored: its pid has another start time, or does not exist.
#[test]
fn a_dead_shim_is_ignored() {
    let dir = tempfile::tempdir().expect("a folder");
    let reused = Registration { start: own("n", "x").start - 1, ..own("n", "reused") };
    let dead = Registration { pid: i32::MAX, ..own("n", "dead") };
    let no_start = Registration { pid: i32::MAX, start: 0, ..own("n", "no-start") };
    for registration in [reused, dead, no_start] {
        registration.write(dir.path()).expect("written");
    }
    assert_eq!(living(dir.path()), []);
}

/// Check that files that are not registrations are ignored, and that a fifo does not block.
#[test]
fn other_files_are_ignored() {
    let dir = tempfile::tempdir().expect("a folder");
    own("n", "real").write(dir.path()).expect("written");
    let folder = dir.path().join("shims/n");
    fs::write(folder.join("broken.json"), "{").expect("written");
    fs::write(folder.join("huge.json"), vec![b' '; 1 << 20]).expect("written");
    fs::write(folder.join("other.txt"), "{}").expect("written");
    fs::write(dir.path().join("shims/file"), "").expect("written");
    nix::unistd::mkfifo(&folder.join("pipe.json"), nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    std::os::unix::fs::symlink(folder.join("real.json"), folder.join("link.json")).expect("a link");
    assert_eq!(living(dir.path()), [own("n", "real")]);
    assert_eq!(living(Path::new("/nowhere")), []);
}

/// Check that removing leaves no file, that it can be repeated, and that it does not touch others.
#[test]
fn removing_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    own("n", "a").write(dir.path()).expect("written");
    own("n", "b").write(dir.path()).expect("written");
    remove(dir.path(), "n", "a").expect("removed");
    assert_eq!(living(dir.path()), [own("n", "b")]);
    fs::write(dir.path().join("shims/n/b.json.new"), "{").expect("half a file");
    remove(dir.path(), "n", "b").expect("removed");
    remove(dir.path(), "n", "b").expect("twice");
    assert_eq!(fs::read_dir(dir.path().join("shims")).expect("it exists").count(), 0);
}

/// Check that a namespace or id is refused if it is not a plain file name.
#[test]
fn a_name_outside_the_directory_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    for (namespace, id) in
        [("..", "a"), ("n", "../a"), ("", "a"), ("n", ""), ("n", "a/b"), ("n", "\0"), (".", ".a")]
    {
        let refused = own(namespace, id).write(dir.path()).expect_err("no name");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(
            remove(dir.path(), namespace, id).expect_err("no name").kind(),
            io::ErrorKind::InvalidInput
        );
    }
}

/// Check that writing works while another shim of the namespace removes its file.
#[test]
fn writing_and_removing_race_safely() {
    let dir = tempfile::tempdir().expect("a folder");
    let raced = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        for id in ["a", "b"] {
            let (dir, raced) = (dir.path(), &raced);
            scope.spawn(move || {
                for _ in 0..200 {
                    remove(dir, "n", id).expect("removed");
                    // May fail after three removals at the worst moments.
                    let _ = own("n", id).write(dir);
                }
                raced.wait();
                own("n", id).write(dir).expect("no thread removes any more");
            });
        }
    });
    assert_eq!(living(dir.path()).len(), 2);
}

fn register(root: &Path, namespace: &str, id: &str, pid: u32, start: u64) {
    let folder = root.join("shims").join(namespace);
    fs::create_dir_all(&folder).unwrap();
    let text = format!(
        r#"{{"pid":{pid},"start":{start},"address":"/s","epoch":"e","version":"1","more":0}}"#
    );
    fs::write(folder.join(format!("{id}.json")), text).unwrap();
}

/// Check that living shims are found, sorted, and that dead shims, reused pids and damaged files
/// are not.
#[test]
fn only_living_shims_are_found() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(registrations(root.path(), None).unwrap(), []);
    let ours = std::process::id();
    let start = start_ticks(i32::try_from(ours).unwrap()).unwrap();
    register(root.path(), "k8s.io", "b", ours, start);
    register(root.path(), "k8s.io", "a", ours, start);
    register(root.path(), "default", "c", ours, start);
    register(root.path(), "default", "reused", ours, start + 1);
    register(root.path(), "default", "dead", u32::MAX >> 1, start);
    fs::write(root.path().join("shims/default/broken.json"), "{").unwrap();
    fs::write(root.path().join("shims/default/other.txt"), "").unwrap();
    fs::write(root.path().join("shims/file"), "").unwrap();
    let names = |found: Vec<Registration>| {
        let name = |shim: Registration| format!("{}/{}", shim.namespace, shim.id);
        found.into_iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(
        names(registrations(root.path(), None).unwrap()),
        ["default/c", "k8s.io/a", "k8s.io/b"]
    );
    assert_eq!(names(registrations(root.path(), Some("default")).unwrap()), ["default/c"]);
    assert_eq!(registrations(root.path(), Some("default")).unwrap()[0].address, "unix:///s");
}
