//! A measurement of what a record costs in the kernel.

use std::{fs, path::Path};

use super::{
    super::stage::{Cgroup, Node, spawn},
    RING,
};
use crate::observe::source::{Source as _, bpf};

/// Not a test: prints the nanoseconds that each program takes per run, for processes of a watched
/// and of a foreign cgroup.
#[test]
#[ignore = "a measurement; needs a quiet machine"]
fn what_a_record_costs() {
    let (node, cgroup, foreign) = (Node::new(), Cgroup::new(), Cgroup::new());
    let mut source = node.source(RING);
    source.watch(cgroup.id(), &cgroup.target()).unwrap();
    let _switch = BpfStats::on();
    let storm = Path::new(&std::env::var_os("LOOKOUT_TOOLS").expect("the directory of hack/setup"))
        .join("storm/bin");
    let programs = bpf::status(node.bpffs()).unwrap().links;
    let costs = || -> Vec<(u64, u64)> {
        let cost = |id: u32| {
            let program =
                libbpf_rs::query::ProgInfoIter::default().find(|program| program.id == id).unwrap();
            (program.run_time_ns, program.run_cnt)
        };
        programs.iter().map(|link| cost(link.ids.unwrap().1)).collect()
    };
    for (name, cgroup) in
        [("watched", &cgroup), ("foreign", &foreign), ("watched", &cgroup), ("foreign", &foreign)]
    {
        let before = costs();
        let mut shell = spawn(
            &mut cgroup.shell("exec \"$1/storm\" 20000 1 0 \"$1/leaf\"", &[storm.as_os_str()]),
        );
        while shell.try_wait().unwrap().is_none() {
            let mut poll =
                [nix::poll::PollFd::new(source.fd().unwrap(), nix::poll::PollFlags::POLLIN)];
            nix::poll::poll(&mut poll, 10u16).unwrap();
            // As the shim reads: records collect after a wake-up.
            std::thread::sleep(source.interval());
            while source.read(256, &mut |_| {}).unwrap() {}
        }
        for ((link, before), after) in programs.iter().zip(&before).zip(costs()) {
            let runs = after.1 - before.1;
            println!("{name} {}: {} ns, {runs} runs", link.name, (after.0 - before.0) / runs);
        }
    }
    println!("{:?}", source.counts(cgroup.id()));
}

/// Switches the kernel's run time statistics of programs on, until it is dropped.
struct BpfStats {
    before: String,
}

impl BpfStats {
    const PATH: &str = "/proc/sys/kernel/bpf_stats_enabled";

    fn on() -> Self {
        let before = fs::read_to_string(Self::PATH).unwrap();
        fs::write(Self::PATH, "1").unwrap();
        Self { before }
    }
}

impl Drop for BpfStats {
    fn drop(&mut self) {
        fs::write(Self::PATH, &self.before).unwrap();
    }
}
