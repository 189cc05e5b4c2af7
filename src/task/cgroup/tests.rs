//! Against the kernel's own cgroups. Everything that is made here is removed here.

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

    /// A cgroup of this test's own with a limit on memory, on whichever version this machine has
    /// it.
    struct Own {
        version: Version,
        path: PathBuf,
    }

    impl Own {
        fn new() -> Own {
            static MADE: AtomicU32 = AtomicU32::new(0);
            let mounts = Mount::all().unwrap();
            let version = mount::version(&mounts);
            let memory = |mount: &&Mount| {
                mount.version == version && (version == Version::V2 || mount.carries("memory"))
            };
            let point =
                &mounts.iter().find(memory).expect("the README requires a memory controller").point;
            let name = format!(
                "lookout-test-{}-{}",
                std::process::id(),
                MADE.fetch_add(1, Ordering::Relaxed)
            );
            let own = Own { version, path: point.join(name) };
            fs::create_dir(&own.path).unwrap();
            own
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

        fn nested(&self, name: &str) -> Own {
            let nested = Own { version: self.version, path: self.path.join(name) };
            fs::create_dir(&nested.path).unwrap();
            nested
        }

        /// Removes it, which the kernel refuses until the last task has left.
        fn remove(&self) {
            let begun = Instant::now();
            while let Err(error) = fs::remove_dir(&self.path) {
                assert!(begun.elapsed() < DEADLINE, "{:?}: {error}", self.path);
                std::thread::yield_now();
            }
        }
    }

    impl Drop for Own {
        fn drop(&mut self) {
            if self.path.exists() {
                self.remove();
            }
        }
    }

    /// A process in a cgroup; ended and reaped at the end of the test.
    struct Member(Child);

    impl Member {
        /// Waits in the cgroup until `go`, then runs `script`.
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

    /// Takes memory until there is none. `dash` has no array to fill, `tail` has one line to keep.
    const EAT: &str = "exec tail /dev/zero";
    const LIMIT: u64 = 16 << 20;

    async fn next(watch: &mut OomWatch) -> Option<u64> {
        tokio::time::timeout(DEADLINE, watch.next()).await.expect("the kernel tells in time")
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
    }

    /// Check that each OOM kill is told with its count (containerd#6323).
    #[test]
    fn an_oom_kill_is_told_with_its_count() {
        run(async {
            let own = Own::new();
            own.limit_memory(LIMIT);
            let mut bystander = Member::new(&own.path, "exec sleep 60");
            bystander.go();
            let cgroup = bystander.cgroup();
            assert_eq!(cgroup.version(), own.version);
            let mut watch = cgroup.watch_oom().unwrap();
            for kills in 1..=3 {
                let mut eater = Member::new(&own.path, EAT);
                eater.go();
                assert_eq!(next(&mut watch).await, Some(kills));
                eater.wait();
                assert_eq!(cgroup.oom_kills().unwrap(), kills);
            }
        });
    }

    /// Check that whoever sees the exit sees the count: it is asked before TaskExit is published.
    #[test]
    fn the_count_is_there_when_the_exit_is() {
        run(async {
            let own = Own::new();
            own.limit_memory(LIMIT);
            for kills in 1..=10 {
                let mut eater = Member::new(&own.path, EAT);
                let cgroup = eater.cgroup();
                let watch = cgroup.watch_oom().unwrap();
                assert_eq!(watch.told(), kills - 1, "what others saw");
                eater.go();
                eater.wait();
                assert_eq!(cgroup.oom_kills().unwrap(), kills);
            }
        });
    }

    /// Check that a kill in a nested cgroup, for the limit of the container's own, is the
    /// container's.
    #[test]
    fn a_kill_in_a_nested_cgroup_is_told() {
        run(async {
            let own = Own::new();
            own.limit_memory(LIMIT);
            let bystander = Member::new(&own.path, "true");
            let cgroup = bystander.cgroup();
            let mut watch = cgroup.watch_oom().unwrap();
            if own.version == Version::V2 {
                // "No internal processes" applies to enabling controllers, not to nesting.
                assert!(
                    fs::read_to_string(own.path.join("cgroup.subtree_control"))
                        .unwrap()
                        .trim()
                        .is_empty()
                );
            }
            let nested = own.nested("nested");
            let mut eater = Member::new(&nested.path, EAT);
            eater.go();
            assert_eq!(next(&mut watch).await, Some(1));
            drop((eater, nested, bystander));
        });
    }

    /// Check that a watch that is dropped while it waits loses nothing.
    #[test]
    fn a_watch_that_is_cancelled_loses_nothing() {
        run(async {
            let own = Own::new();
            own.limit_memory(LIMIT);
            let bystander = Member::new(&own.path, "true");
            let mut watch = bystander.cgroup().watch_oom().unwrap();
            let mut eater = Member::new(&own.path, EAT);
            eater.go();
            let begun = Instant::now();
            let told = loop {
                assert!(begun.elapsed() < DEADLINE);
                if let Ok(told) =
                    tokio::time::timeout(Duration::from_micros(200), watch.next()).await
                {
                    break told;
                }
            };
            assert_eq!(told, Some(1));
        });
    }

    /// Check that the watch ends with the cgroup, and that then all answers are "not found".
    #[test]
    fn a_watch_ends_with_its_cgroup() {
        run(async {
            let own = Own::new();
            let member = Member::new(&own.path, "true");
            let cgroup = member.cgroup();
            let mut watch = cgroup.watch_oom().unwrap();
            let waiting = tokio::time::timeout(Duration::from_millis(1), watch.next()).await;
            assert!(waiting.is_err(), "nothing has happened yet");
            drop(member);
            own.remove();
            assert_eq!(next(&mut watch).await, None);
            assert!(cgroup.stats().unwrap_err().is_not_found());
            assert!(cgroup.pids().unwrap_err().is_not_found());
            assert!(cgroup.oom_kills().unwrap_err().is_not_found());
            assert!(cgroup.watch_oom().unwrap_err().is_not_found());
        });
    }

    /// Check that a watch without events costs no turn of the runtime, and that its end is cheap
    /// too.
    #[test]
    fn a_watch_does_not_spin() {
        run(async {
            let own = Own::new();
            own.limit_memory(LIMIT);
            let bystander = Member::new(&own.path, "true");
            let mut watch = bystander.cgroup().watch_oom().unwrap();
            let mut eater = Member::new(&own.path, EAT);
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

    /// Check that a watch outside of a runtime is refused and panics nobody.
    #[test]
    fn a_watch_outside_of_a_runtime_is_refused() {
        let own = Own::new();
        let member = Member::new(&own.path, "true");
        assert!(matches!(member.cgroup().watch_oom(), Err(CgroupError::Watch { .. })));
    }

    /// Check that the members of nested cgroups are listed.
    #[test]
    fn members_of_nested_cgroups_are_listed() {
        let own = Own::new();
        let nested = own.nested("nested");
        let members = [Member::new(&own.path, "true"), Member::new(&nested.path, "true")];
        let mut expected: Vec<_> = members.iter().map(Member::pid).collect();
        expected.sort_unstable();
        assert_eq!(members[0].cgroup().pids().unwrap(), expected);
        assert_eq!(members[1].cgroup().pids().unwrap(), [members[1].pid()]);
        drop((members, nested));
    }

    /// Check that the statistics tell what the process uses, in the message for this machine.
    #[test]
    fn statistics_tell_what_is_used() {
        let own = Own::new();
        own.limit_memory(LIMIT);
        let member = Member::new(&own.path, "true");
        let any = member.cgroup().stats().unwrap();
        let (usage, limit) = match own.version {
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
        let (own, other) = (Own::new(), Own::new());
        let member = Member::new(&own.path, "true");
        let name = other.path.file_name().unwrap().to_str().unwrap();
        join(&format!("/{name}"), member.pid()).unwrap();
        assert_eq!(member.cgroup().pids().unwrap(), [member.pid()]);
        assert!(fs::read(own.path.join("cgroup.procs")).unwrap().is_empty());
        let gone = join(&format!("/{name}"), u32::MAX >> 1).unwrap_err();
        assert!(matches!(gone, CgroupError::Write { .. }), "{gone}");
    }

    /// Check that a zombie, which version 1 puts in the root, is given no cgroup of others.
    #[test]
    fn a_zombie_is_not_given_the_root_cgroup() {
        let own = Own::new();
        let mut member = Member::new(&own.path, "true");
        let pid = i32::try_from(member.pid()).unwrap();
        member.go();
        let ended = nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT;
        nix::sys::wait::waitid(nix::sys::wait::Id::Pid(nix::unistd::Pid::from_raw(pid)), ended)
            .unwrap();
        match Cgroup::of_process(pid) {
            Err(CgroupError::NotPlaced { .. }) => assert_eq!(own.version, Version::V1),
            Ok(cgroup) => assert!(cgroup.pids().unwrap().is_empty()),
            Err(error) => panic!("{error}"),
        }
        member.wait();
        assert!(matches!(Cgroup::of_process(pid), Err(CgroupError::NoProcess { .. })));
    }
}
