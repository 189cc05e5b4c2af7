use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn own(namespace: &str, shim_id: &str) -> Registration {
    let pid = i32::try_from(std::process::id()).expect("a pid");
    Registration {
        namespace: namespace.into(),
        id: shim_id.into(),
        pid,
        start: start_ticks(pid).expect("we live"),
        address: "unix:///run/s".into(),
        epoch: "e1".into(),
        version: "1".into(),
    }
}

fn living(dir: &Path) -> Vec<Registration> {
    registrations(dir, None).expect("it can be read")
}

/// Check that what was written is read, in order, with names from the path.
#[test]
fn what_is_written_is_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let all = [own("default", "web"), own("k8s.io", "a"), own("k8s.io", "b")];
    all.iter().rev().for_each(|registration| registration.write(dir.path()).expect("written"));
    assert_eq!(living(dir.path()), all);
}

/// Check the file as the design promises it, and that nobody else can read it.
#[test]
fn the_file_has_the_promised_fields_and_modes() {
    let dir = tempfile::tempdir().expect("a folder");
    let registration = Registration { pid: 5, start: 7, ..own("default", "web") };
    registration.write(dir.path()).expect("written");
    let file = dir.path().join("shims/default/web.json");
    let text = fs::read_to_string(&file).expect("a file");
    insta::assert_snapshot!(text, @r#"{"pid":5,"start":7,"address":"unix:///run/s","epoch":"e1","version":"1"}"#);
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().expect("a folder"))), (0o600, 0o700));
}

/// Check that a shim that is gone is passed over: another start, another pid, or a zombie.
#[test]
fn a_dead_shim_is_passed_over() {
    let dir = tempfile::tempdir().expect("a folder");
    let earlier = Registration { start: own("n", "x").start - 1, ..own("n", "earlier") };
    let nobody = Registration { pid: i32::MAX, ..own("n", "nobody") };
    let no_start = Registration { pid: i32::MAX, start: 0, ..own("n", "no-start") };
    [earlier, nobody, no_start].iter().for_each(|one| one.write(dir.path()).expect("written"));
    assert_eq!(living(dir.path()), []);
}

/// Check that files that are no registrations are passed over, and hold nobody.
#[test]
fn other_files_are_passed_over() {
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

/// Check that removing leaves nothing, that it may be done twice, and that it leaves others alone.
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
    assert_eq!(fs::read_dir(dir.path().join("shims")).expect("there").count(), 0);
}

/// Check that a name that leads elsewhere is refused.
#[test]
fn a_name_that_leads_elsewhere_is_refused() {
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

/// Check that removing while another shim of the namespace writes fails neither.
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
                    // Gives up after three removals at the worst moment, and says so.
                    let _ = own("n", id).write(dir);
                }
                raced.wait();
                own("n", id).write(dir).expect("nobody removes any more");
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

/// Check that the living are found, sorted, and that the dead, the reused and the broken are not.
#[test]
fn only_shims_that_live_are_found() {
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
        found.into_iter().map(|one| format!("{}/{}", one.namespace, one.id)).collect::<Vec<_>>()
    };
    assert_eq!(
        names(registrations(root.path(), None).unwrap()),
        ["default/c", "k8s.io/a", "k8s.io/b"]
    );
    assert_eq!(names(registrations(root.path(), Some("default")).unwrap()), ["default/c"]);
    assert_eq!(registrations(root.path(), Some("default")).unwrap()[0].address, "unix:///s");
}
