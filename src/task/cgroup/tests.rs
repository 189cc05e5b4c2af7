//! Tests against the kernel's cgroups. Each test removes what it creates.

mod root {
    use std::{
        fs,
        path::{Path, PathBuf},
        process::{Child, Command, Stdio},
        sync::atomic::{AtomicU32, Ordering},
        time::{Duration, Instant},
    };

    use containerd_shim_protos::{cgroups, cgroups_v2, protobuf::Message as _};

    use super::super::{mount::Mount, *};

    const DEADLINE: Duration = Duration::from_secs(60);

    /// A cgroup that belongs to this test and has a memory controller, in the version that this
    /// machine uses.
    struct TestCgroup {
        version: Version,
        path: PathBuf,
    }

    impl TestCgroup {
        fn new() -> TestCgroup {
            static MADE: AtomicU32 = AtomicU32::new(0);
            let mounts = Mount::all().unwrap();
            let version = mount::version(&mounts);
            let memory = |mount: &&Mount| {
                mount.version == version
                    && (version == Version::V2 || mount.has_controller("memory"))
            };
            let point =
                &mounts.iter().find(memory).expect("the README requires a memory controller").point;
            let name = format!(
                "lookout-test-{}-{}",
                std::process::id(),
                MADE.fetch_add(1, Ordering::Relaxed)
            );
            let test_cgroup = TestCgroup { version, path: point.join(name) };
            fs::create_dir(&test_cgroup.path).unwrap();
            test_cgroup
        }

        fn limit_memory(&self, bytes: u64) {
            let files: &[&str] = match self.version {
                Version::V1 => &["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"],
                Version::V2 => &["memory.max", "memory.swap.max"],
            };
            for file in files.iter().filter(|file| self.path.join(file).exists()) {
                fs::write(self.path.join(file), bytes.to_string()).unwrap();
            }
        }

        fn nested(&self, name: &str) -> TestCgroup {
            let nested = TestCgroup { version: self.version, path: self.path.join(name) };
            fs::create_dir(&nested.path).unwrap();
            nested
        }

        /// Removes the cgroup. The kernel refuses that until the last task has left.
        fn remove(&self) {
            let begun = Instant::now();
            while let Err(error) = fs::remove_dir(&self.path) {
                assert!(begun.elapsed() < DEADLINE, "{:?}: {error}", self.path);
                std::thread::yield_now();
            }
        }
    }

    impl Drop for TestCgroup {
        fn drop(&mut self) {
            if self.path.exists() {
                self.remove();
            }
        }
    }

    /// A process in a cgroup, killed and reaped at the end of the test.
    struct Member(Child);

    impl Member {
        /// Starts a process that waits in the cgroup until [`go`](Self::go) and then runs `script`.
        fn new(cgroup: &Path, script: &str) -> Member {
            let procs = cgroup.join("cgroup.procs");
            let mut command = Command::new("/bin/sh");
            command
                .args(["-c", &format!("read go; {script}")])
                .stdin(Stdio::piped())
                .stdout(Stdio::null());
            #[expect(clippy::disallowed_methods, reason = "there is no reaper in this test")]
            let child = command.spawn().unwrap();
            let member = Member(child);
            fs::write(procs, member.pid().to_string()).unwrap();
            member
        }

        fn pid(&self) -> u32 {
            self.0.id()
        }

        fn cgroup(&self) -> Cgroup {
            Cgroup::of_process(self.pid().try_into().unwrap()).unwrap()
        }

        fn go(&mut self) {
            drop(self.0.stdin.take());
        }

        fn wait(&mut self) {
            self.0.wait().unwrap();
        }
    }

    impl Drop for Member {
        fn drop(&mut self) {
            let _ = self.0.kill();
            self.wait();
        }
    }

    /// Allocates memory until none is left. `tail` keeps a line that never ends; `dash` has no
    /// array that could be filled.
    const EAT: &str = "exec tail /dev/zero";
    const LIMIT: u64 = 16 << 20;

    async fn next(watch: &mut OomWatch) -> Option<u64> {
        tokio::time::timeout(DEADLINE, watch.next()).await.expect("the kernel signals in time")
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
    }

    /// Check that each OOM kill is reported with its count (containerd#6323).
    #[test]
    fn an_oom_kill_is_reported_with_its_count() {
        run(async {
            let test_cgroup = TestCgroup::new();
            test_cgroup.limit_memory(LIMIT);
            let mut bystander = Member::new(&test_cgroup.path, "exec sleep 60");
            bystander.go();
            let cgroup = bystander.cgroup();
            assert_eq!(cgroup.version(), test_cgroup.version);
            let mut watch = cgroup.watch_oom().unwrap();
            for kills in 1..=3 {
                let mut eater = Member::new(&test_cgroup.path, EAT);
                eater.go();
                assert_eq!(next(&mut watch).await, Some(kills));
                eater.wait();
                assert_eq!(cgroup.oom_kills().unwrap(), kills);
            }
        });
    }

    /// Check that the count is up to date when the exit is known, because it is read before
    /// TaskExit is published.
    #[test]
    fn the_count_is_current_when_the_exit_is_known() {
        run(async {
            let test_cgroup = TestCgroup::new();
            test_cgroup.limit_memory(LIMIT);
            for kills in 1..=10 {
                let mut eater = Member::new(&test_cgroup.path, EAT);
                let cgroup = eater.cgroup();
                let watch = cgroup.watch_oom().unwrap();
                assert_eq!(watch.last_count(), kills - 1, "the kills before this watch");
                eater.go();
                eater.wait();
                assert_eq!(cgroup.oom_kills().unwrap(), kills);
            }
        });
    }

    /// Check that a kill in a nested cgroup, caused by the limit of the container's cgroup, counts
    /// as the container's.
    #[test]
    fn a_kill_in_a_nested_cgroup_is_reported() {
        run(async {
            let test_cgroup = TestCgroup::new();
            test_cgroup.limit_memory(LIMIT);
            let bystander = Member::new(&test_cgroup.path, "true");
            let cgroup = bystander.cgroup();
            let mut watch = cgroup.watch_oom().unwrap();
            if test_cgroup.version == Version::V2 {
                // "No internal processes" applies to enabling controllers, not to nesting.
                assert!(
                    fs::read_to_string(test_cgroup.path.join("cgroup.subtree_control"))
                        .unwrap()
                        .trim()
                        .is_empty()
                );
            }
            let nested = test_cgroup.nested("nested");
            let mut eater = Member::new(&nested.path, EAT);
            eater.go();
            assert_eq!(next(&mut watch).await, Some(1));
            drop((eater, nested, bystander));
        });
    }

    /// Check that cancelling a waiting watch loses no kill.
    #[test]
    fn a_watch_that_is_cancelled_loses_nothing() {
        run(async {
            let test_cgroup = TestCgroup::new();
            test_cgroup.limit_memory(LIMIT);
            let bystander = Member::new(&test_cgroup.path, "true");
            let mut watch = bystander.cgroup().watch_oom().unwrap();
            let mut eater = Member::new(&test_cgroup.path, EAT);
            eater.go();
            let begun = Instant::now();
            let reported = loop {
                assert!(begun.elapsed() < DEADLINE);
                if let Ok(reported) =
                    tokio::time::timeout(Duration::from_micros(200), watch.next()).await
                {
                    break reported;
                }
            };
            assert_eq!(reported, Some(1));
        });
    }

    /// Check that the watch ends with the cgroup, and that every method returns "not found" after
    /// that.
    #[test]
    fn a_watch_ends_with_its_cgroup() {
        run(async {
            let test_cgroup = TestCgroup::new();
            let member = Member::new(&test_cgroup.path, "true");
            let cgroup = member.cgroup();
            let mut watch = cgroup.watch_oom().unwrap();
            let waiting = tokio::time::timeout(Duration::from_millis(1), watch.next()).await;
            assert!(waiting.is_err(), "nothing has happened yet");
            drop(member);
            test_cgroup.remove();
            assert_eq!(next(&mut watch).await, None);
            assert!(cgroup.stats().unwrap_err().is_not_found());
            assert!(cgroup.pids().unwrap_err().is_not_found());
            assert!(cgroup.oom_kills().unwrap_err().is_not_found());
            assert!(cgroup.watch_oom().unwrap_err().is_not_found());
        });
    }

    /// Check that a watch is polled rarely when nothing happens, also after a kill.
    #[test]
    fn a_watch_does_not_spin() {
        run(async {
            let test_cgroup = TestCgroup::new();
            test_cgroup.limit_memory(LIMIT);
            let bystander = Member::new(&test_cgroup.path, "true");
            let mut watch = bystander.cgroup().watch_oom().unwrap();
            let mut eater = Member::new(&test_cgroup.path, EAT);
            eater.go();
            next(&mut watch).await;
            let polls = std::cell::Cell::new(0);
            let mut next = Box::pin(watch.next());
            let counted = std::future::poll_fn(|context| {
                polls.set(polls.get() + 1);
                next.as_mut().poll(context)
            });
            assert!(tokio::time::timeout(Duration::from_secs(2), counted).await.is_err());
            assert!(polls.get() < 50, "{} polls in 2 s", polls.get());
        });
    }

    /// Check that a watch outside of a tokio runtime is an error and no panic.
    #[test]
    fn a_watch_outside_of_a_runtime_is_refused() {
        let test_cgroup = TestCgroup::new();
        let member = Member::new(&test_cgroup.path, "true");
        assert!(matches!(member.cgroup().watch_oom(), Err(CgroupError::Watch { .. })));
    }

    /// Check that the members of nested cgroups are listed.
    #[test]
    fn members_of_nested_cgroups_are_listed() {
        let test_cgroup = TestCgroup::new();
        let nested = test_cgroup.nested("nested");
        let members = [Member::new(&test_cgroup.path, "true"), Member::new(&nested.path, "true")];
        let mut expected: Vec<_> = members.iter().map(Member::pid).collect();
        expected.sort_unstable();
        assert_eq!(members[0].cgroup().pids().unwrap(), expected);
        assert_eq!(members[1].cgroup().pids().unwrap(), [members[1].pid()]);
        drop((members, nested));
    }

    /// Check that the statistics report the usage, in the message for this machine's version.
    #[test]
    fn statistics_report_the_usage() {
        let test_cgroup = TestCgroup::new();
        test_cgroup.limit_memory(LIMIT);
        let member = Member::new(&test_cgroup.path, "true");
        let any = member.cgroup().stats().unwrap();
        let (usage, limit) = match test_cgroup.version {
            Version::V1 => {
                assert_eq!(any.type_url, "io.containerd.cgroups.v1.Metrics");
                let metrics = cgroups::metrics::Metrics::parse_from_bytes(&any.value).unwrap();
                assert_eq!(metrics.memory.hierarchical_memory_limit, LIMIT);
                (metrics.memory.usage.usage, metrics.memory.usage.limit)
            }
            Version::V2 => {
                assert_eq!(any.type_url, "io.containerd.cgroups.v2.Metrics");
                let metrics = cgroups_v2::metrics::Metrics::parse_from_bytes(&any.value).unwrap();
                assert_eq!(metrics.pids.current, 1);
                assert!(metrics.memory_events.is_some());
                (metrics.memory.usage, metrics.memory.usage_limit)
            }
        };
        assert_eq!(limit, LIMIT);
        assert!(usage <= limit, "{usage}");
    }

    /// Check that a process is moved into a cgroup that exists.
    #[test]
    fn a_process_joins_an_existing_cgroup() {
        let (test_cgroup, other) = (TestCgroup::new(), TestCgroup::new());
        let member = Member::new(&test_cgroup.path, "true");
        let name = other.path.file_name().unwrap().to_str().unwrap();
        join(&format!("/{name}"), member.pid()).unwrap();
        assert_eq!(member.cgroup().pids().unwrap(), [member.pid()]);
        assert!(fs::read(test_cgroup.path.join("cgroup.procs")).unwrap().is_empty());
        let gone = join(&format!("/{name}"), u32::MAX >> 1).unwrap_err();
        assert!(matches!(gone, CgroupError::Write { .. }), "{gone}");
    }

    /// Check that a zombie, which version 1 lists in the root cgroup, has no cgroup or its own,
    /// never the root's.
    #[test]
    fn a_zombie_is_not_given_the_root_cgroup() {
        let test_cgroup = TestCgroup::new();
        let mut member = Member::new(&test_cgroup.path, "true");
        let pid = i32::try_from(member.pid()).unwrap();
        member.go();
        let ended = nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT;
        nix::sys::wait::waitid(nix::sys::wait::Id::Pid(nix::unistd::Pid::from_raw(pid)), ended)
            .unwrap();
        match Cgroup::of_process(pid) {
            Err(CgroupError::NoCgroup { .. }) => assert_eq!(test_cgroup.version, Version::V1),
            Ok(cgroup) => assert!(cgroup.pids().unwrap().is_empty()),
            Err(error) => panic!("{error}"),
        }
        member.wait();
        assert!(matches!(Cgroup::of_process(pid), Err(CgroupError::NoProcess { .. })));
    }
}
