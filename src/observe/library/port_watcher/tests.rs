use std::{
    net::{TcpListener, UdpSocket},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    time::Duration,
};

use super::*;
use crate::{
    model::Transport,
    observe::source::poll::{self, PollSource},
};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A watcher of the process `pid`, and the receiver of its events.
fn watched(pid: i32) -> (PortWatcher, Receiver<PortEvent>) {
    let (sender, events) = mpsc::channel();
    (PortWatcher::new(pid, move |event| drop(sender.send(event.clone()))), events)
}

fn sleeper() -> Child {
    sleeper_with(Stdio::null())
}

#[expect(clippy::disallowed_methods, reason = "a test has no reaper")]
fn sleeper_with(stdin: Stdio) -> Child {
    Command::new("sleep").arg("1000").stdin(stdin).spawn().unwrap()
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}

/// Check that without eBPF the ports that are open, open and close are reported with their process,
/// that a stopped watcher reports nothing, and that it can be started again.
#[test]
fn the_kernels_list_shows_what_opens_and_closes() {
    let before = TcpListener::bind("127.0.0.1:0").unwrap();
    let first = before.local_addr().unwrap().port();
    let (mut watcher, events) = watched(own_pid());
    for _ in 0..2 {
        watcher.start_over(Box::new(PollSource::new(poll::SCAN_INTERVAL))).unwrap();
        let event = events.recv_timeout(TIMEOUT).unwrap();
        assert_eq!(
            (event.is_open, event.endpoint.port, event.pid),
            (true, first, Some(own_pid())),
            "{event:?}"
        );
        assert_eq!(event.grade, Grade::Snapshot);
        let later = TcpListener::bind("[::1]:0").unwrap();
        let second = later.local_addr().unwrap();
        let event = events.recv_timeout(TIMEOUT).unwrap();
        assert_eq!(
            (event.is_open, event.endpoint.port, event.endpoint.address),
            (true, second.port(), second.ip())
        );
        drop(later);
        let event = events.recv_timeout(TIMEOUT).unwrap();
        assert_eq!((event.is_open, event.endpoint.port), (false, second.port()));
        watcher.stop();
        drop(TcpListener::bind("127.0.0.1:0").unwrap());
        assert!(events.try_recv().is_err());
    }
}

/// Check that of the many processes that hold a port the first are named, and all are counted.
#[test]
fn the_owners_of_a_port_are_named_up_to_a_bound() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let inherited = || Stdio::from(OwnedFd::from(listener.try_clone().unwrap()));
    let mut children: Vec<Child> = (0..50).map(|_| sleeper_with(inherited())).collect();
    let (mut watcher, events) = watched(own_pid());
    watcher.start_over(Box::new(PollSource::new(poll::SCAN_INTERVAL))).unwrap();
    let event = events.recv_timeout(TIMEOUT).unwrap();
    children.iter_mut().for_each(|child| {
        child.kill().unwrap();
        child.wait().unwrap();
    });
    assert_eq!((event.pid, event.owners.count), (Some(own_pid()), 51), "{event:?}");
    assert_eq!(event.owners.named.len(), 32, "{event:?}");
}

/// Check that the ports of another process are not reported, and that a missing process is an error
/// after which the watcher can still be started.
#[test]
fn another_processes_ports_are_not_reported() {
    let mut child = sleeper();
    let _ours = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut watcher, events) = watched(i32::try_from(child.id()).unwrap());
    watcher.start_over(Box::new(PollSource::new(poll::SCAN_INTERVAL))).unwrap();
    assert!(events.recv_timeout(Duration::from_millis(200)).is_err());
    watcher.stop();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(watcher.start().is_err());
    assert!(watcher.start().is_err());
}

mod root {
    use std::io;

    use super::*;
    use crate::observe::source::bpf::{self, BpfSource};

    /// A source in a bpffs of its own at `node`.
    fn bpf_source(node: &std::path::Path) -> BpfSource {
        const RING: u32 = 64 << 10;
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("bpf"), node, Some("bpf"), flags, None::<&str>).unwrap();
        let mut load = || bpf::load(node).map_err(io::Error::other);
        BpfSource::open(node, RING, &mut load).unwrap()
    }

    /// Check that with eBPF the ports that are open at the start are reported first, with their
    /// processes and namespaces: those of the process and of a child that has a network namespace
    /// of its own, IPv4 and IPv6.
    #[test]
    fn ports_that_are_open_at_the_start_are_reported() {
        let node = tempfile::tempdir().unwrap();
        let source = bpf_source(node.path());
        open_ports_are_reported(Box::new(source));
        nix::mount::umount2(node.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    }

    /// Check the same without eBPF.
    #[test]
    fn ports_that_are_open_at_the_start_are_reported_without_bpf() {
        open_ports_are_reported(Box::new(PollSource::new(poll::SCAN_INTERVAL)));
    }

    /// A process in a network namespace of its own that holds a listener there, on port 700.
    #[expect(clippy::disallowed_methods, reason = "a test has no reaper")]
    fn nested_listener() -> Child {
        let spawn = || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let listener = TcpListener::bind("0.0.0.0:700").unwrap();
            let input = std::os::fd::OwnedFd::from(listener);
            Command::new("sleep").arg("1000").stdin(input).spawn().unwrap()
        };
        // The thread alone is in the namespace, and its child.
        std::thread::spawn(spawn).join().unwrap()
    }

    fn open_ports_are_reported(source: Box<dyn Source>) {
        let before = ["127.0.0.1:0", "[::1]:0"].map(|local| TcpListener::bind(local).unwrap());
        let mut expected: Vec<u16> =
            before.iter().map(|one| one.local_addr().unwrap().port()).collect();
        let mut nested = nested_listener();
        expected.push(700);
        let (mut watcher, events) = watched(own_pid());
        watcher.start_over(source).unwrap();
        let opened: Vec<PortEvent> =
            expected.iter().map(|_| events.recv_timeout(TIMEOUT).unwrap()).collect();
        let namespace = |pid: u32| {
            use std::os::unix::fs::MetadataExt as _;
            std::fs::metadata(format!("/proc/{pid}/ns/net")).unwrap().ino()
        };
        for event in &opened {
            let pid = if event.endpoint.port == 700 { nested.id() } else { std::process::id() };
            assert!(event.is_open && event.grade == Grade::Snapshot, "{event:?}");
            assert_eq!(event.pid, i32::try_from(pid).ok(), "{event:?}");
            let within = u64::from(event.network_namespace.inode);
            assert_eq!(within, namespace(pid), "{event:?}");
        }
        let mut reported: Vec<u16> = opened.iter().map(|event| event.endpoint.port).collect();
        reported.sort_unstable();
        expected.sort_unstable();
        assert_eq!(reported, expected);
        nested.kill().unwrap();
        nested.wait().unwrap();
        let event = events.recv_timeout(TIMEOUT).unwrap();
        assert_eq!((event.is_open, event.endpoint.port), (false, 700), "{event:?}");
        watcher.stop();
    }

    /// Check that with eBPF each listener of a descendant is reported exactly, however short its
    /// life, and that a socket that another process closes last is reported as closed.
    #[test]
    fn listeners_of_descendants_are_reported_exactly() {
        const COUNT: usize = 50;
        let node = tempfile::tempdir().unwrap();
        let source = bpf_source(node.path());
        let (mut watcher, events) = watched(own_pid());
        watcher.start_over(Box::new(source)).unwrap();
        for _ in 0..COUNT {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            drop(listener);
            for is_open in [true, false] {
                let event = events.recv_timeout(TIMEOUT).unwrap();
                let received = (event.is_open, event.endpoint.port, event.pid, event.grade);
                assert_eq!(received, (is_open, port, Some(own_pid()), Grade::Exact));
            }
        }
        let socket = UdpSocket::bind("[::1]:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        drop(socket);
        for is_open in [true, false] {
            let PortEvent { endpoint, pid, grade, is_open: opened, .. } =
                events.recv_timeout(TIMEOUT).unwrap();
            assert_eq!((opened, pid, grade), (is_open, Some(own_pid()), Grade::Exact));
            assert_eq!((endpoint.transport, endpoint.port), (Transport::Udp, port));
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(events.recv_timeout(TIMEOUT).unwrap().is_open);
        // A child inherits the listener and is killed. The port stays open until this process
        // closes it too.
        let mut child = sleeper();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(events.try_recv().is_err());
        drop(listener);
        assert!(!events.recv_timeout(TIMEOUT).unwrap().is_open);
        watcher.stop();
        nix::mount::umount2(node.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
}
