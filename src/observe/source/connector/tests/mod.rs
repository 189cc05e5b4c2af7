use nix::fcntl::{Flock, FlockArg};

/// Takes the lock of the tests that listen on the proc connector, so that they run one after the
/// other, also in different processes: some of them check whether the machine has any listener.
/// tests/shim/root/watch/sources.rs takes the same lock.
pub(in crate::observe) fn alone() -> Flock<std::fs::File> {
    let path = std::env::temp_dir().join("lookout-test-connector.lock");
    let file =
        std::fs::File::options().create(true).truncate(false).write(true).open(path).unwrap();
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).unwrap()
}

mod root {
    use std::{
        process::{Command, Stdio},
        thread::JoinHandle,
    };

    use super::{super::*, alone};
    use crate::{
        linux::testing::{Cgroup, Killed, spawn, until},
        model::{Grade, ProcessKey, UnknownReason},
        observe::{
            record::{ScanStep, What},
            source::connector::netlink::Message,
        },
    };

    mod exits;

    /// A runtime directory with a listener on a thread of the test. The listener returns 50 ms
    /// after its last client has disconnected.
    struct Node {
        dir: tempfile::TempDir,
        listener: Option<JoinHandle<io::Result<()>>>,
    }

    impl Node {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap(), listener: None }
        }

        fn connect(&mut self) -> ConnectorSource {
            self.connect_with(2 << 20)
        }

        fn connect_with(&mut self, buffer: usize) -> ConnectorSource {
            let dir = self.dir.path().to_owned();
            let listener = &mut self.listener;
            ConnectorSource::connect(self.dir.path(), &mut || {
                let dir = dir.clone();
                *listener = Some(thread::spawn(move || {
                    serve::serve_with(&dir, Duration::from_millis(50), buffer, || {})
                }));
                Ok(())
            })
            .unwrap()
        }

        fn await_listener_end(&mut self) {
            let listener = self.listener.take().unwrap();
            until("the listener returns", || listener.is_finished());
            listener.join().unwrap().unwrap();
            assert!(!serve::socket_path(self.dir.path()).exists());
        }
    }

    /// Waits for the listener: if the test process ended first, the listener could not send
    /// `PROC_CN_MCAST_IGNORE`, and the kernel would create events until the next boot.
    impl Drop for Node {
        fn drop(&mut self) {
            let deadline = Instant::now() + Duration::from_secs(10);
            while self.listener.as_ref().is_some_and(|listener| !listener.is_finished())
                && Instant::now() < deadline
            {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn read_until(
        source: &mut ConnectorSource,
        mut is_enough: impl FnMut(&[Record]) -> bool,
    ) -> Vec<Record> {
        let mut records = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            while source.read(64, &mut |record| records.push(record)).unwrap() {}
            if is_enough(&records) {
                return records;
            }
            let timeout = deadline.saturating_duration_since(Instant::now());
            assert!(!timeout.is_zero(), "not within 20 s: {records:?}");
            let mut ready = [PollFd::new(source.fd().unwrap(), PollFlags::POLLIN)];
            let _ = poll(&mut ready, PollTimeout::try_from(timeout).unwrap());
        }
    }

    fn exit_of(records: &[Record], of: i32) -> Option<u32> {
        records.iter().find_map(|record| match record {
            Record::Process { key, what: What::Exit { wait_status, .. }, .. } if key.pid == of => {
                *wait_status
            }
            _ => None,
        })
    }

    fn cgroup(of: &Cgroup) -> Target {
        Target::Cgroup { path: of.0.clone(), pid_namespace: None }
    }

    /// Check that every fork, exec and exit of 500 short processes is reported, and that no record
    /// has the arguments of another process.
    #[test]
    fn short_processes_are_reported_completely_and_graded_correctly() {
        const PROCESSES: usize = 500;
        let _alone = alone();
        let mut node = Node::new();
        let mut source = node.connect();
        let container = Cgroup::new("storm");
        let mut shell = container
            .shell("i=0; while [ $i -lt 500 ]; do i=$((i+1)); /bin/true n$i; done; exit 3");
        source.watch(TargetId(7), &cgroup(&container)).unwrap();
        let shell_key = shell.key();
        shell.go();
        let records = read_until(&mut source, |records| exit_of(records, shell.pid()).is_some());
        let (mut forks, mut execs, mut exits) = (Vec::new(), Vec::new(), 0);
        for record in &records {
            let (key, grade, what) = match record {
                Record::Process { target: TargetId(7), key, what, grade, .. } => (key, grade, what),
                Record::Scan { target: TargetId(7), .. } => continue,
                other => panic!("{other:?}"),
            };
            match what {
                What::Fork(lineage) => {
                    assert_eq!(lineage.parent, Some(shell_key));
                    forks.push(*key);
                }
                // The exec of the shell itself, which the kernel reports after spawn(3) has
                // returned.
                What::Exec { .. } if *key == shell_key => {}
                What::Exec { image, lineage, .. } => {
                    assert_eq!(lineage.parent_pid(), Some(shell.pid()));
                    execs.push((*key, *grade, image.clone()));
                }
                What::Exit { wait_status, .. } => {
                    assert_eq!(*wait_status, Some(if key.pid == shell.pid() { 0x300 } else { 0 }));
                    exits += 1;
                }
                What::Alive { .. } => assert_eq!(*key, shell_key),
            }
        }
        assert_eq!((forks.len(), execs.len(), exits), (PROCESSES, PROCESSES, PROCESSES + 1));
        let mut late = 0;
        for (number, (key, grade, image)) in execs.iter().enumerate() {
            // The shell starts one process after the other.
            assert_eq!(*key, forks[number]);
            let argument = format!("n{}", number + 1);
            let expected = [b"/bin/true", argument.as_bytes()];
            match (grade, &image.args) {
                (Grade::Late, Some(args)) => {
                    late += 1;
                    assert!(args.iter().eq(expected), "{args:?} of {argument}");
                    assert!(
                        image.executable.as_deref().is_some_and(|path| !path.is_empty()),
                        "{image:?}"
                    );
                }
                (Grade::Partial, args) => {
                    assert!(image.unknown.is_some(), "{image:?}");
                    assert!(
                        args.as_ref().is_none_or(|args| args.iter().eq(expected)),
                        "{args:?} of {argument}"
                    );
                }
                other => panic!("{other:?}"),
            }
        }
        println!("{late} of {PROCESSES} execs have a complete image");
        drop(source);
        node.await_listener_end();
    }

    /// Check that an exec without a fork has the arguments of the new image.
    #[test]
    fn an_exec_without_a_fork_is_reported_with_its_own_arguments() {
        let _alone = alone();
        let mut node = Node::new();
        let mut source = node.connect();
        let container = Cgroup::new("exec");
        let mut shell = container.shell("exec sleep 1000");
        source.watch(TargetId(1), &cgroup(&container)).unwrap();
        shell.go();
        let is_exec =
            |record: &&Record| matches!(record, Record::Process { what: What::Exec { .. }, .. });
        let records =
            read_until(&mut source, |records| records.iter().any(|record| is_exec(&record)));
        let record = records.iter().find(is_exec).unwrap();
        let Record::Process {
            key,
            grade,
            what: What::Exec { image, in_host_mounts, cgroup, .. },
            ..
        } = record
        else {
            panic!("{record:?}")
        };
        assert_eq!((*key, *grade, image.unknown), (shell.key(), Grade::Late, None));
        assert!(image.args.as_ref().unwrap().iter().eq([&b"sleep"[..], b"1000"]));
        assert_eq!((*in_host_mounts, *cgroup), (Some(true), None));
    }

    /// Check that each of two shims receives only the records of its own targets, and none of a
    /// target that it no longer watches.
    #[test]
    fn a_client_receives_records_of_its_own_targets_only() {
        let _alone = alone();
        let mut node = Node::new();
        let (mut first, mut second) = (node.connect(), node.connect());
        let (left, right) = (Cgroup::new("left"), Cgroup::new("right"));
        let (mut in_left, mut in_right) = (left.shell("true; exit 1"), right.shell("true; exit 2"));
        first.watch(TargetId(1), &cgroup(&left)).unwrap();
        second.watch(TargetId(1), &cgroup(&right)).unwrap();
        second.watch(TargetId(2), &Target::Tree { pid: in_left.pid() }).unwrap();
        // The same process is still watched by the first client.
        second.unwatch(TargetId(2));
        in_left.go();
        let records = read_until(&mut first, |records| exit_of(records, in_left.pid()).is_some());
        assert_eq!(exit_of(&records, in_left.pid()), Some(0x100));
        in_right.go();
        let records = read_until(&mut second, |records| exit_of(records, in_right.pid()).is_some());
        assert!(records.iter().all(|record| match record {
            Record::Process { key, target: TargetId(1), .. } => key.pid != in_left.pid(),
            record => matches!(record, Record::Scan { target: TargetId(1), .. }),
        }));
    }

    /// Check that the descendants of a tree are watched after their parent has ended.
    #[test]
    fn descendants_are_watched_after_their_parent_has_ended() {
        let _alone = alone();
        let mut node = Node::new();
        let mut source = node.connect();
        let mut root = Killed(spawn(
            Command::new("sh")
                .args(["-c", "read go; ((sleep 0.2; exit 9) &) ; exit 4"])
                .stdin(Stdio::piped()),
        ));
        source.watch(TargetId(3), &Target::Tree { pid: root.pid() }).unwrap();
        root.go();
        let has_nine = |record: &Record| {
            matches!(
                record,
                Record::Process { what: What::Exit { wait_status: Some(0x900), .. }, .. }
            )
        };
        let records = read_until(&mut source, |records| records.iter().any(has_nine));
        assert_eq!(exit_of(&records, root.pid()), Some(0x400));
    }

    /// Check that a listener that receives SIGTERM asks the kernel to stop, and that its clients
    /// receive an error.
    #[test]
    fn clients_of_a_terminated_listener_receive_an_error() {
        let _alone = alone();
        let mut node = Node::new();
        let mut source = node.connect();
        let witness = Witness::new();
        crate::sys::process::signal_thread(node.listener.as_ref().unwrap(), nix::libc::SIGTERM);
        until("the listener has closed the connection", || {
            matches!(source.read(64, &mut |_| {}), Err(SourceError::Gone { .. }))
        });
        assert!(matches!(
            source.watch(TargetId(1), &Target::Tree { pid: 1 }),
            Err(SourceError::Gone { .. })
        ));
        node.await_listener_end();
        witness.assert_stopped();
    }

    /// Check that the listener lowers the kernel's count of listeners after its last client has
    /// disconnected.
    #[test]
    fn nothing_listens_after_the_last_client() {
        let _alone = alone();
        let mut node = Node::new();
        let source = node.connect();
        assert!(Witness::new().receives_events(), "while the listener runs");
        let witness = Witness::new();
        drop(source);
        node.await_listener_end();
        witness.assert_stopped();
        let witness = Witness::new();
        assert!(netlink::Connector::listen().is_ok());
        witness.assert_stopped();
    }

    /// A socket in the kernel's group that has not asked to listen. While any process of the
    /// machine listens, it receives the events too, and the answers to all requests.
    struct Witness(netlink_sys::Socket);

    impl Witness {
        fn new() -> Self {
            let mut socket =
                netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_CONNECTOR).unwrap();
            socket.set_non_blocking(true).unwrap();
            socket.bind(&netlink_sys::SocketAddr::new(0, 1)).unwrap();
            nix::sys::socket::setsockopt(
                &socket,
                nix::sys::socket::sockopt::RcvBufForce,
                &(8 << 20),
            )
            .unwrap();
            Self(socket)
        }

        fn receives_events(&self) -> bool {
            self.messages();
            spawn(&mut Command::new("true")).wait().unwrap();
            !self.messages().is_empty()
        }

        /// Waits until the listener of the test has stopped. If no other process listens, the
        /// kernel sends no events any more. If others do, its answer to the request to stop is
        /// seen.
        fn assert_stopped(&self) {
            let stopped = Message::Answer {
                to: netlink::request_number(netlink::MCAST_IGNORE) + 1,
                errno: 0,
            };
            until("the kernel sends no events, or has accepted the request to stop", || {
                self.messages().contains(&stopped) || !Self::new().receives_events()
            });
        }

        fn messages(&self) -> Vec<Message> {
            std::iter::from_fn(|| self.0.recv_from_full().ok())
                .filter_map(|(bytes, _)| netlink::parse(&bytes))
                .collect()
        }
    }

    /// Check that a second listener returns at once, and leaves the socket of the first in place.
    #[test]
    fn a_second_listener_returns_at_once() {
        let _alone = alone();
        let mut node = Node::new();
        let _source = node.connect();
        serve(node.dir.path(), || {}).unwrap();
        assert!(serve::socket_path(node.dir.path()).exists());
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &serve::socket_path(node.dir.path()).metadata().unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }

    /// Check that a target that does not exist is refused with the reason, and that the source
    /// still works afterwards.
    #[test]
    fn a_target_that_does_not_exist_is_refused() {
        let _alone = alone();
        let mut node = Node::new();
        let mut source = node.connect();
        let path = Cgroup::new("absent").0.clone();
        for target in [Target::Cgroup { path, pid_namespace: None }, Target::Tree { pid: i32::MAX }]
        {
            assert!(
                matches!(source.watch(TargetId(1), &target), Err(SourceError::Target { .. })),
                "{target:?}"
            );
        }
        assert!(!source.read(1, &mut |record| panic!("{record:?}")).unwrap());
        source.watch(TargetId(1), &Target::Tree { pid: std::process::id().cast_signed() }).unwrap();
    }

    /// Check that a client that does not read receives the number of records that it lost, and a
    /// scan of the processes that are alive.
    #[test]
    fn a_client_that_does_not_read_receives_its_loss_and_a_scan() {
        let _alone = alone();
        let mut node = Node::new();
        // 64 KiB instead of 2 MiB, so that the listener runs out of space after few records.
        let mut source = node.connect_with(64 << 10);
        let container = Cgroup::new("slow");
        // Long arguments fill the buffer sooner.
        let long = "x".repeat(4000);
        let script =
            format!("i=0; while [ $i -lt 300 ]; do i=$((i+1)); /bin/true {long}; done; exit 3");
        let mut shell = container.shell(&script);
        source.watch(TargetId(7), &cgroup(&container)).unwrap();
        let pid = shell.pid();
        shell.go();
        shell.0.wait().unwrap();
        // The scan that follows the loss finds that the shell has ended. The listener would drop
        // the events that it had not read by then, and they would be in no count.
        until("the listener to read all events", || {
            let sockets = std::fs::read_to_string("/proc/net/netlink").unwrap();
            let rows = sockets.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
            // Protocol 11 is the connector; the fifth column is what waits in the receive buffer.
            rows.filter(|row| row[1] == "11").all(|row| row[4] == "0")
        });
        // The exec of the shell itself may be reported too, and is not counted below.
        let own =
            |key: &ProcessKey, what: &What| key.pid == pid && matches!(what, What::Exec { .. });
        let is_lost = |record: &Record| matches!(record, Record::Lost { .. });
        let is_end = |record: &Record| matches!(record, Record::Scan { step: ScanStep::Ended, .. });
        let records = read_until(&mut source, |records| {
            records.iter().skip_while(|record| !is_lost(record)).any(is_end)
                || exit_of(records, 0).is_some()
        });
        let losses: Vec<_> = records.iter().filter(|record| is_lost(record)).collect();
        let [Record::Lost { count: Some(lost), target: None, .. }] = losses[..] else {
            panic!("{losses:?}")
        };
        let is_counted = |record: &&Record| {
            let Record::Process { key, what, .. } = record else { return false };
            let is_event = matches!(what, What::Fork(_) | What::Exec { .. } | What::Exit { .. });
            is_event && !own(key, what)
        };
        // A fork, an exec and an exit of each of 300 processes, and the exit of the shell.
        let delivered = records.iter().filter(is_counted).count() as u64;
        assert_eq!(delivered + lost, 3 * 300 + 1);
        assert!(*lost > 0);
    }

    /// Check that a process that does not exist, or that is younger than the exec, has no reading.
    #[test]
    fn a_missing_or_younger_process_has_no_reading() {
        assert!(reading::Reading::of(i32::MAX, u64::MAX).is_none());
        let me = std::process::id().cast_signed();
        assert!(reading::Reading::of(me, 0).is_none(), "the process is younger");
        assert!(reading::Reading::of(me, u64::MAX / 2).is_some());
        assert_eq!(UnknownReason::Gone.as_str(), "gone");
    }
}
