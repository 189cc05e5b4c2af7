//! `lookout kill` of processes in real containers.

use serde_json::Value;

use crate::harness::{
    containerd::{Containerd, Version},
    deadline,
};

/// The pids of the live processes with these arguments in the container `c`.
fn pids(containerd: &Containerd, args: &[&str]) -> Vec<String> {
    let rows = containerd.lookout(&["ps", "--container", "c", "-o", "jsonl"]).run().success().rows;
    let is_it = |row: &&Value| row["process"]["command_args"] == serde_json::json!(args);
    rows.iter().filter(is_it).map(|row| row["process"]["pid"].to_string()).collect()
}

/// Runs `sh -c '(sleep DAEMON &); exec sleep MAIN'` as an exec: a process that stays, and a
/// descendant that has got another parent. Waits until the daemon knows both, and returns their
/// pids.
fn exec(containerd: &Containerd, id: &str, daemon: &str, main: &str) -> (String, String) {
    let script = format!("(sleep {daemon} &); exec sleep {main}");
    let exec = ["task", "exec", "--detach", "--exec-id", id, "c", "sh", "-c", &script];
    containerd.ctr(&exec).success();
    let pid = |time: &str| pids(containerd, &["sleep", time]).first().cloned();
    deadline::until("both", || pid(daemon).is_some() && pid(main).is_some());
    let (daemon, main) = (pid(daemon).expect("it lives"), pid(main).expect("it lives"));
    deadline::until("the daemon to know them", || {
        let stats = containerd.lookout(&["stats", "-q", "--containers"]).run().stdout_text();
        [&daemon, &main].iter().all(|pid| stats.lines().any(|line| line == **pid))
    });
    (daemon, main)
}

/// Check that `kill --tree` names a descendant that has daemonized, and leaves it; that
/// `--all-descendants` signals it; and that `--exec-id` signals all of an exec and nothing else.
#[test]
fn descendants_that_have_daemonized_are_named_or_signalled() {
    let containerd = Containerd::start(Version::V1_7);
    containerd.detached("c", &[], &["sleep", "1000"]);
    let _daemon = containerd.lookout(&["daemon"]).spawn();
    deadline::until("the daemon", || containerd.lookout(&["ping"]).run().code == 0);
    let kill = |args: &[&str]| containerd.lookout(&[&["kill", "-s", "KILL"], args].concat()).run();
    let gone = |time: &str| {
        deadline::until("its end", || pids(&containerd, &["sleep", time]).is_empty());
    };

    let (daemon, main) = exec(&containerd, "tree", "1111", "1112");
    let id = containerd.lookout(&["add", "-q", &main]).run().success().stdout_text();
    let killed = kill(&["--tree", id.trim()]).success();
    let left = format!(
        "lookout: left: process {daemon} of container c (sleep 1111), a descendant that has been \
         given another parent: --all-descendants signals it too\n"
    );
    assert_eq!(String::from_utf8_lossy(&killed.stderr), left);
    gone("1112");
    assert_eq!(pids(&containerd, &["sleep", "1111"]), [daemon]);

    let (_, main) = exec(&containerd, "all", "2221", "2222");
    let id = containerd.lookout(&["add", "-q", &main]).run().success().stdout_text();
    let killed = kill(&["--all-descendants", id.trim()]).success();
    assert_eq!(String::from_utf8_lossy(&killed.stderr), "");
    gone("2221");
    gone("2222");

    exec(&containerd, "job", "3331", "3332");
    kill(&["--exec-id", "job", "--container", "c"]).success();
    gone("3331");
    gone("3332");
    for (exec, container, reason) in [
        ("job", "c", "no process of an exec job runs in container c"),
        ("job", "other", "no process of a container other is known"),
    ] {
        let refused = kill(&["--exec-id", exec, "--container", container]).exit_code(3);
        let message = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(message, format!("lookout: {reason}\n"));
    }
    // The processes of init and of another exec live.
    assert_eq!(pids(&containerd, &["sleep", "1000"]).len(), 1);
    kill(&["--exec-id", "tree", "--container", "c"]).success();
    gone("1111");
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "c"]).success();
    containerd.remove("c");
}
