//! What a container's processes inherit: the same as under containerd's own shim. Whatever the shim
//! drops, filters or limits in itself must not reach a container.

use std::os::unix::fs::symlink;

use crate::harness::{
    containerd::{Containerd, IMAGE, RUNTIME, Version},
    tools::tool,
};

on_every_containerd! {
    init_and_exec_inherit_the_same_as_under_the_stock_shim,
}

/// containerd's own shim.
const STOCK: &str = "io.containerd.runc.v2";

/// The kinds of containers: the flags of `ctr run`.
const KINDS: &[&[&str]] = &[
    &[],
    &["--privileged"],
    &["--privileged", "--allow-new-privs", "--net-host"],
    &["--seccomp"],
    &["--user", "1000:1000", "--cap-add", "CAP_SYS_ADMIN"],
    &["--allow-new-privs", "--cap-drop", "CAP_KILL"],
];

/// What must be among the facts that are compared.
const FACTS: &[&str] = &[
    "CapInh:",
    "CapPrm:",
    "CapEff:",
    "CapBnd:",
    "CapAmb:",
    "NoNewPrivs:",
    "Seccomp:",
    "Umask:",
    "SigBlk:",
    "SigIgn:",
    "securebits:",
    "oom_score_adj:",
    "limits: Max open files",
    "limits: Max realtime timeout",
];

/// What init and an exec of a container print: see `tests/storm/inherited.c`.
fn inherited(containerd: &Containerd, runtime: &str, flags: &[&str]) -> [Vec<String>; 2] {
    let program = tool("storm/bin/inherited");
    let mount = format!("type=bind,src={},dst=/inherited,options=rbind:ro", program.display());
    let run = |mode: &str, command: &[&str]| {
        let flags = [&["run", mode, "--runtime", runtime, "--mount", &mount], flags].concat();
        containerd.ctr(&[&flags[..], &[IMAGE, "c"], command].concat()).success().stdout_text()
    };
    let init = run("--rm", &["/inherited"]);
    run("--detach", &["sleep", "1000"]);
    let exec = containerd.exec("c", &[], &["/inherited"]).run().success().stdout_text();
    containerd.remove("c");
    [init, exec].map(|text| text.lines().map(str::to_owned).collect())
}

/// The one intended difference. A container that sets no OOM score gets containerd's under our
/// shim. Under the stock shim it gets that of the shim, which is one higher.
fn with_our_oom_score(theirs: &[String]) -> Vec<String> {
    let ours = |line: &String| match line.strip_prefix("oom_score_adj: ") {
        Some(score) => {
            let score: i32 = score.parse().expect("proc(5)");
            format!("oom_score_adj: {}", score - 1)
        }
        None => line.clone(),
    };
    theirs.iter().map(ours).collect()
}

/// Check that a container's init and its execs inherit the same under our shim and under that of
/// the same containerd: capabilities, seccomp, `no_new_privs`, securebits, every limit, the
/// umask, signals, scheduling, descriptors and environment.
fn init_and_exec_inherit_the_same_as_under_the_stock_shim(version: Version) {
    let containerd = Containerd::start(version);
    symlink(containerd.stock_shim(), containerd.path("bin/containerd-shim-runc-v2"))
        .expect("our directory is writable");
    // ctr of 1.6 has no flag for the user.
    let has_user = version != Version::V1_6;
    for flags in KINDS.iter().filter(|flags| has_user || !flags.contains(&"--user")) {
        let theirs = inherited(&containerd, STOCK, flags);
        let ours = inherited(&containerd, RUNTIME, flags);
        for ((process, theirs), ours) in ["init", "exec"].into_iter().zip(theirs).zip(ours) {
            for fact in FACTS {
                assert!(theirs.iter().any(|line| line.starts_with(fact)), "{fact} {theirs:#?}");
            }
            let expected = with_our_oom_score(&theirs);
            let differ = expected.iter().zip(&ours).find(|(expected, our)| expected != our);
            assert_eq!(differ, None, "{process} with {flags:?}: (theirs, ours)");
            assert_eq!(expected.len(), ours.len(), "{process} with {flags:?}");
        }
    }
    containerd.assert_nothing_left();
}
