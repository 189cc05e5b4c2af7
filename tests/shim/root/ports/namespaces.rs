//! Containers with processes in network namespaces of their own.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt as _};

use nix::{
    sys::{signal::Signal, stat::Mode},
    unistd::mkfifo,
};

use super::{
    super::{daemon, mount_of_our_folder, watch::sources::lock_connector},
    SOON, listed, mount, number, of, owners, remove, wait,
};
use crate::harness::{
    Process,
    containerd::{Containerd, ObservedEvent, Subscriber, Version},
    deadline,
};

/// A port as a test compares it: the network namespace, the protocol, the number.
type Known = (u64, String, u64);

fn known(port: &ObservedEvent) -> Known {
    let within = port.number("/port/network_namespace").expect("each port has a namespace");
    (within, port.text("/network/transport").to_owned(), number(port))
}

/// The inode number of the network namespace of a process.
fn network(pid: u64) -> u64 {
    fs::metadata(format!("/proc/{pid}/ns/net")).expect("it lives").ino()
}

/// Starts an exec in a network namespace of its own, which runs `/ports ARGUMENTS`.
fn nested(containerd: &Containerd, exec_id: &str, arguments: &[&str]) {
    let flags = ["task", "exec", "--exec-id", exec_id, "--detach", "c"];
    let program = ["unshare", "-n", "/ports"];
    containerd.program(&[&flags[..], &program, arguments].concat()).run().success();
}

/// Waits for the port of an exec, and checks that it has the namespace of the exec's process.
fn wait_nested(subscriber: &Subscriber, exec_id: &str) -> ObservedEvent {
    let wanted = |event: &ObservedEvent| {
        event.kind() == "port.open" && event.text("/owners/0/exec_id") == exec_id
    };
    let open = subscriber.wait(SOON, &format!("the port of {exec_id}"), wanted);
    assert_eq!(known(&open).0, network(owners(&open)[0]), "{open:?}");
    open
}

/// Asserts that the openings and closings of each port alternate, and returns the open ones.
fn open_by_events(subscriber: &Subscriber) -> BTreeSet<Known> {
    let mut open = BTreeSet::new();
    for event in subscriber.all().iter().filter(|event| event.kind().starts_with("port.")) {
        let key = known(event);
        let is_news =
            if event.kind() == "port.open" { open.insert(key) } else { open.remove(&key) };
        assert!(is_news, "{event:?}");
    }
    open
}

/// Check that a listener without bind(2), for which the kernel's list of one namespace is read,
/// closes no port of nested namespaces: TCP and UDP, IPv4 and IPv6. Nor do two such listeners in
/// nested namespaces, which have their own number and namespace.
#[test]
fn a_listener_without_bind_closes_no_port_of_a_nested_namespace() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    containerd.detached(
        "c",
        &["--privileged", "--mount", &mount()],
        &["/ports", "hold", "0.0.0.0", "8080"],
    );
    wait(&subscriber, "port.open", "c", 8080);
    let init = u64::from(containerd.pid("c").unsigned_abs());
    let mut expected = BTreeSet::from([(network(init), "tcp".to_owned(), 8080)]);
    let execs: [(&str, &[&str]); 4] = [
        ("tcp4", &["hold", "0.0.0.0", "8080"]),
        ("tcp6", &["hold", "::", "8080"]),
        ("udp4", &["udp", "0.0.0.0", "8080"]),
        ("udp6", &["udp", "::", "8080"]),
    ];
    for (exec_id, arguments) in execs {
        nested(&containerd, exec_id, arguments);
        expected.insert(known(&wait_nested(&subscriber, exec_id)));
    }
    assert_eq!(expected.len(), 5, "one namespace each: {expected:?}");
    for exec_id in ["unbound-1", "unbound-2"] {
        nested(&containerd, exec_id, &["unbound"]);
        let open = wait_nested(&subscriber, exec_id);
        assert_eq!(open.text("/grade"), "late", "{open:?}");
        expected.insert(known(&open));
    }
    let exec =
        ["task", "exec", "--exec-id", "own", "--detach", "c", "/ports", "unbound"].as_slice();
    containerd.program(exec).run().success();
    let open = wait_nested(&subscriber, "own");
    assert_eq!(known(&open).0, network(init), "{open:?}");
    expected.insert(known(&open));
    assert_eq!(of(&subscriber.all(), "port.close", "c").len(), 0);
    assert_eq!(listed(&containerd, "c").iter().map(known).collect::<BTreeSet<_>>(), expected);
    assert_eq!(open_by_events(&subscriber), expected);
    remove(&containerd, "c");
    let account = subscriber.wait_close("c");
    assert_eq!(account.at("/seen"), account.at("/delivered"), "{account:?}");
    assert!(open_by_events(&subscriber).is_empty());
    drop(subscriber);
    containerd.assert_nothing_left_but_fifos();
}

/// Check that after a loss the ports of nested namespaces are the open ones: a port that stays open
/// has no event, one that closed meanwhile is closed, one that opened meanwhile is found. TCP and
/// UDP; the kernel's list opens no UDP port.
#[test]
fn a_loss_closes_no_port_of_a_nested_namespace() {
    let containerd = Containerd::start_configured(Version::V1_7, "ring_size = \"4KiB\"\n");
    let subscriber = containerd.subscribe();
    let go = containerd.path("go");
    mkfifo(&go, Mode::S_IRWXU).expect("our directory is writable");
    let directory = mount_of_our_folder(&containerd);
    let script = "unshare -n /ports hold 0.0.0.0 8080 & unshare -n /ports udp :: 8080 & \
                  unshare -n /ports hold :: 8081 & closed=$!; \
                  unshare -n /ports udp 0.0.0.0 8082 & closed=\"$closed $!\"; \
                  read line </host/go; /ports short 5000 0 10000 >/dev/null; \
                  kill -9 $closed; unshare -n /ports hold :: 8083 & \
                  exec /ports hold 127.0.0.1 700";
    let flags = ["--privileged", "--mount", &mount(), "--mount", &directory];
    containerd.detached("c", &flags, &["sh", "-c", script]);
    let stay = [8080, 8081, 8082].map(|port| wait(&subscriber, "port.open", "c", port));
    let (shim, init) = (containerd.shim("c"), containerd.pid("c"));
    // The shim does not read the ring meanwhile.
    shim.signal(Signal::SIGSTOP);
    fs::write(&go, "go\n").expect("the container reads");
    let opened = |pid: i32, port: &str| {
        ["tcp", "tcp6"].iter().any(|table| {
            fs::read_to_string(format!("/proc/{pid}/net/{table}"))
                .is_ok_and(|list| list.contains(port))
        })
    };
    deadline::until("the last ones to listen", || {
        let children = Process::new(u64::from(init.unsigned_abs())).children();
        opened(init, ":02BC ") && children.iter().any(|child| opened(child.pid, ":1F93 "))
    });
    shim.signal(Signal::SIGCONT);
    subscriber.wait(SOON, "a gap", |event| {
        event.kind() == "observer.gap" && event.text("/stage") == "kernel"
    });
    for (kind, port) in [("close", 8081), ("close", 8082), ("open", 8083), ("open", 700)] {
        wait(&subscriber, &format!("port.{kind}"), "c", port);
    }
    let closed = subscriber.all();
    let closed: BTreeSet<u64> = of(&closed, "port.close", "c").into_iter().map(number).collect();
    assert!(!closed.contains(&8080) && !closed.contains(&8083), "{closed:?}");
    let port = |event: &ObservedEvent| (event.text("/network/transport").to_owned(), number(event));
    let open = [("tcp", 700), ("tcp", 8080), ("tcp", 8083), ("udp", 8080)];
    let open = BTreeSet::from(open.map(|(transport, number)| (transport.to_owned(), number)));
    deadline::until("what is listed to be what is open", || {
        listed(&containerd, "c").iter().map(port).collect::<BTreeSet<_>>() == open
    });
    assert_eq!(known(&stay[0]).2, 8080);
    remove(&containerd, "c");
    subscriber.wait_close("c");
    assert!(open_by_events(&subscriber).is_empty());
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that namespaces that come and go, with inode numbers that the kernel reuses, open and
/// close each port by turns, and that nothing stays open.
#[test]
fn namespaces_that_come_and_go_leave_no_port_open() {
    const COUNT: usize = 40;
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    containerd.detached("c", &["--privileged", "--mount", &mount()], &["sleep", "1000"]);
    for transport in ["tcp", "udp"] {
        let script = format!(
            "for i in $(seq {COUNT}); do unshare -n /ports short 1 0 8080 {transport}; done"
        );
        containerd.exec("c", &[], &["sh", "-c", &script]).run().success();
    }
    subscriber.wait_for(SOON, "the closings", |events| {
        (of(events, "port.close", "c").len() == 2 * COUNT).then_some(())
    });
    assert!(open_by_events(&subscriber).is_empty());
    assert_eq!(of(&subscriber.all(), "port.open", "c").len(), 2 * COUNT);
    assert!(listed(&containerd, "c").is_empty());
    remove(&containerd, "c");
    let account = subscriber.wait_close("c");
    assert_eq!(account.at("/seen"), account.at("/delivered"), "{account:?}");
    drop(subscriber);
    containerd.assert_nothing_left();
}

/// Check that a port in a nested namespace that closes does not close its twin in the container's
/// own namespace: for the shim, for `ports -w`, and for the daemon. TCP and UDP.
#[test]
fn a_nested_twin_closes_alone() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    fs::create_dir_all(containerd.path("lookout")).expect("our directory is writable");
    let mut daemon = daemon::start(&containerd.path("lookout"));
    let flags = ["--privileged", "--mount", &mount()];
    containerd.detached("c", &flags, &["/ports", "hold", "0.0.0.0", "8080"]);
    let exec = ["task", "exec", "--exec-id", "udp", "--detach", "c", "/ports"];
    containerd.program(&[&exec[..], &["udp", "0.0.0.0", "8080"]].concat()).run().success();
    let own = [("tcp", "hold"), ("udp", "udp")].map(|(transport, how)| {
        let open = subscriber.wait(SOON, "the container's own port", |event| {
            event.kind() == "port.open" && event.text("/network/transport") == transport
        });
        (known(&open), how)
    });
    let watcher = containerd.watch_ports();
    for (port, how) in &own {
        let twin = format!("twin-{how}");
        nested(&containerd, &twin, &[how, "0.0.0.0", "8080"]);
        let open = wait_nested(&subscriber, &twin);
        assert_eq!((&known(&open).1, known(&open).2), (&port.1, port.2));
        assert_ne!(known(&open).0, port.0);
        let ports = by_daemon(&containerd, 3);
        assert!(ports.contains(&known(&open)), "{ports:?}");
        Process::new(owners(&open)[0]).signal(Signal::SIGKILL);
        let close =
            |event: &ObservedEvent| event.kind() == "port.close" && known(event) == known(&open);
        subscriber.wait(SOON, "the twin's end", close);
        watcher.wait(SOON, "the twin's end", close);
        let expected: BTreeSet<Known> = own.iter().map(|(port, _)| port.clone()).collect();
        assert_eq!(by_daemon(&containerd, 2), expected);
        assert_eq!(listed(&containerd, "c").iter().map(known).collect::<BTreeSet<_>>(), expected);
        assert_eq!(open_by_events(&subscriber), expected);
    }
    drop(watcher);
    remove(&containerd, "c");
    subscriber.wait_close("c");
    daemon.kill().expect("our own child");
    daemon.wait().expect("our own child");
    drop(subscriber);
    containerd.assert_nothing_left_but_fifos();
}

/// The ports of the container as the daemon knows them, once there are `count`.
#[track_caller]
fn by_daemon(containerd: &Containerd, count: usize) -> BTreeSet<Known> {
    let ask = || {
        let arguments = ["ports", "--daemon", "-o", "json", "--container", "c"];
        let answer = containerd.lookout(&arguments).run();
        let ports: Vec<serde_json::Value> =
            serde_json::from_str(&answer.stdout_text()).unwrap_or_default();
        ports.into_iter().map(|port| known(&ObservedEvent(port))).collect::<BTreeSet<Known>>()
    };
    deadline::until(&format!("{count} ports by the daemon"), || ask().len() == count);
    ask()
}

/// Check that each source that sees no ports finds the ports of nested namespaces, keeps two with
/// one number apart, and closes each with its process.
#[test]
fn ports_of_nested_namespaces_are_found_in_the_kernels_lists() {
    for source in ["connector", "poll"] {
        let settings = format!("source = \"{source}\"\n");
        let containerd = Containerd::start_configured(Version::V1_7, &settings);
        let _connector = lock_connector(&containerd);
        let subscriber = containerd.subscribe();
        let flags = ["--privileged", "--mount", &mount()];
        containerd.detached("c", &flags, &["/ports", "hold", "0.0.0.0", "8080"]);
        let own = wait(&subscriber, "port.open", "c", 8080);
        let mut expected = BTreeSet::from([known(&own)]);
        for (exec_id, address) in [("v4", "0.0.0.0"), ("v6", "::")] {
            nested(&containerd, exec_id, &["hold", address, "8080"]);
            let open = subscriber.wait(SOON, "the nested port", |event| {
                event.kind() == "port.open" && !expected.contains(&known(event))
            });
            expected.insert(known(&open));
        }
        assert_eq!(listed(&containerd, "c").iter().map(known).collect::<BTreeSet<_>>(), expected);
        assert_eq!(of(&subscriber.all(), "port.close", "c").len(), 0, "{source}");
        // Bound UDP sockets are listed only.
        nested(&containerd, "udp", &["udp", "::", "53"]);
        deadline::until("the UDP port to be listed", || {
            listed(&containerd, "c").iter().any(|port| number(port) == 53)
        });
        let ports = listed(&containerd, "c");
        for port in ports.iter().filter(|port| known(port).0 != known(&own).0) {
            assert_eq!(known(port).0, network(owners(port)[0]), "{port:?}");
            Process::new(owners(port)[0]).signal(Signal::SIGKILL);
        }
        subscriber.wait_for(SOON, "the closings", |events| {
            (of(events, "port.close", "c").len() == 2).then_some(())
        });
        assert_eq!(open_by_events(&subscriber), BTreeSet::from([known(&own)]), "{source}");
        remove(&containerd, "c");
        subscriber.wait_close("c");
        drop(subscriber);
        containerd.assert_nothing_left_but_fifos();
    }
}
