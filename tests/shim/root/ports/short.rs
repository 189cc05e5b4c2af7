//! Listeners that are gone before anybody could look.

use std::{collections::BTreeSet, fs};

use nix::{
    sys::{signal::Signal, stat::Mode},
    unistd::mkfifo,
};

use super::{super::mount_of_our_folder, SOON, address, listed, mount, number, of, remove, wait};
use crate::harness::{
    containerd::{Containerd, Told, Version},
    deadline,
};

/// How many listeners.
const COUNT: usize = 300;

/// Check that of 300 listeners that live for 5 ms each, v4 and v6, loopback and wildcard, every
/// tenth on a port that the kernel chose, each is told as opened and as closed, with its port,
/// address, scope and owner, and that the account is whole.
#[test]
fn three_hundred_short_listeners_are_told_whole() {
    are_told_whole("tcp");
}

/// Check the same of UDP sockets that are bound.
#[test]
fn three_hundred_short_udp_sockets_are_told_whole() {
    are_told_whole("udp");
}

fn are_told_whole(transport: &str) {
    let containerd = Containerd::start(Version::V1_7);
    let watching = containerd.watching();
    let mount = mount();
    containerd.detached("c", &["--mount", &mount], &["sleep", "1000"]);
    let program = ["/ports", "short", &COUNT.to_string(), "5000", "20000", transport];
    let exec = ["task", "exec", "--exec-id", "e", "c"];
    let printed = containerd.program(&[&exec[..], &program].concat()).run().success().stdout_text();
    watching.wait(SOON, "the end of the listeners", |told| {
        told.kind() == "process.exit" && told.text("/containerd/exec_id") == "e"
    });
    let told = watching.all();
    let (opened, closed) = (of(&told, "port.open", "c"), of(&told, "port.close", "c"));
    assert_eq!((opened.len(), closed.len()), (COUNT, COUNT));
    let runner = watching.wait_run(&program);
    let expected: Vec<Vec<&str>> =
        printed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(expected.len(), COUNT);
    for ((open, close), words) in opened.iter().zip(&closed).zip(&expected) {
        for told in [open, close] {
            assert_eq!(
                (address(told), number(told).to_string().as_str()),
                (words[1], words[2]),
                "{told:?}"
            );
            check(told, &runner, words[1], transport);
        }
        let before = words[3].parse().ok();
        let (opened, closed) = (open.number("/monotonic_ns"), close.number("/monotonic_ns"));
        assert!(
            before.is_some() && before < opened && opened < closed,
            "{before:?} {open:?} {close:?}"
        );
    }
    remove(&containerd, "c");
    let close = watching.wait_close("c");
    assert_eq!(
        (close.at("/seen"), close.number("/lost")),
        (close.at("/delivered"), Some(0)),
        "{close:?}"
    );
    drop(watching);
    containerd.assert_nothing_left();
}

/// Panics unless the words that follow from the address are right, and the owner is the program of
/// the exec.
#[track_caller]
fn check(told: &Told, runner: &Told, address: &str, transport: &str) {
    let scope = if ["0.0.0.0", "::"].contains(&address) { "wildcard" } else { "loopback" };
    assert_eq!((told.text("/grade"), told.text("/source")), ("exact", "bpf"), "{told:?}");
    assert_eq!(told.text("/network/transport"), transport, "{told:?}");
    assert_eq!(
        told.text("/network/type"),
        if address.contains(':') { "ipv6" } else { "ipv4" },
        "{told:?}"
    );
    assert_eq!(told.text("/port/scope"), scope, "{told:?}");
    assert_eq!(
        told.at("/port/dual_stack").as_bool().unwrap_or_default(),
        address == "::",
        "{told:?}"
    );
    let [owner] = told.at("/owners").as_array().expect("owners").as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(&owner["entity_id"], runner.at("/process/entity_id"), "{told:?}");
    assert_eq!(&owner["pid"], runner.at("/process/pid"), "{told:?}");
    assert_eq!(&owner["vpid"], runner.at("/process/vpid"), "{told:?}");
    assert_eq!(
        (&owner["executable"]["path"], &owner["exec_id"]),
        (&"/ports".into(), &"e".into()),
        "{told:?}"
    );
    assert_eq!(owner["container_id"], "c", "{told:?}");
}

/// Check that where listeners overrun the ring the loss is counted and told, that each port that
/// was told opens and closes by turns all the same, and that what is told as open in the end is
/// what is.
#[test]
fn what_was_lost_is_told_and_looked_for() {
    is_told_and_looked_for("tcp");
}

/// Check the same of UDP sockets; one that is connected is still open then.
#[test]
fn what_was_lost_of_udp_is_told_and_looked_for() {
    is_told_and_looked_for("udp");
}

fn is_told_and_looked_for(transport: &str) {
    let mut containerd = Containerd::start(Version::V1_7);
    fs::write(containerd.path("lookout.toml"), "ring_size = \"4KiB\"\n")
        .expect("our folder is writable");
    containerd.kill_9();
    containerd.restart();
    let watching = containerd.watching();
    let mount = mount();
    let go = containerd.path("go");
    mkfifo(&go, Mode::S_IRWXU).expect("our folder is writable");
    let folder = mount_of_our_folder(&containerd);
    let script = "/ports udp 127.0.0.1 701 connected & \
                  read line </host/go; /ports short 5000 0 10000 $0 >/dev/null; exec /ports hold :: 700";
    containerd.detached(
        "c",
        &["--mount", &mount, "--mount", &folder],
        &["sh", "-c", script, transport],
    );
    wait(&watching, "port.open", "c", 701);
    let (shim, init) = (containerd.shim("c"), containerd.pid("c"));
    // Nobody reads meanwhile.
    shim.signal(Signal::SIGSTOP);
    fs::write(&go, "go\n").expect("the container reads");
    let listens = || {
        fs::read_to_string(format!("/proc/{init}/net/tcp6"))
            .is_ok_and(|list| list.contains(":02BC "))
    };
    deadline::until("the last one to listen", listens);
    shim.signal(Signal::SIGCONT);
    wait(&watching, "port.open", "c", 700);
    watching.wait(SOON, "a gap", |told| {
        told.kind() == "observer.gap" && told.text("/stage") == "kernel"
    });
    deadline::until("what is listed to be what is open", || {
        listed(&containerd, "c").iter().map(number).collect::<Vec<_>>() == [700, 701]
    });
    assert_eq!(watching.count(|told| told.kind() == "port.close" && number(told) == 701), 0);
    remove(&containerd, "c");
    let close = watching.wait_close("c");
    let (seen, delivered) =
        (close.number("/seen").expect("counted"), close.number("/delivered").expect("known"));
    let lost = close.number("/lost").expect("counted");
    assert!(lost > 0 && seen == delivered + lost, "{close:?}");
    let mut open = BTreeSet::new();
    for told in watching.all().iter().filter(|told| told.kind().starts_with("port.")) {
        let key =
            (told.text("/network/transport").to_owned(), address(told).to_owned(), number(told));
        let is_news = if told.kind() == "port.open" { open.insert(key) } else { open.remove(&key) };
        assert!(is_news, "{told:?}");
    }
    assert!(open.is_empty(), "{open:?}");
    drop(watching);
    containerd.assert_nothing_left();
}
