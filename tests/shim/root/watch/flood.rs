//! A flood in one container causes no loss in another.

use std::fs;

use super::{STORM, account};
use crate::harness::{
    containerd::{Containerd, Version},
    deadline,
    tools::tool,
};

/// Check that a fork bomb under a limit of 200 processes causes no loss of its neighbour's events.
#[test]
fn a_fork_bomb_costs_the_neighbour_nothing() {
    let containerd = Containerd::start(Version::V1_7);
    let subscriber = containerd.subscribe();
    let mount =
        format!("type=bind,src={},dst=/bomb,options=rbind:ro", tool("storm/bin/bomb").display());
    let script = "until [ -e /go ]; do usleep 1000; done; exec /bomb";
    containerd.detached("bomb", &["--mount", &mount], &["sh", "-c", script]);
    fs::write(containerd.cgroup("pids", "bomb").join("pids.max"), "200")
        .expect("the container's cgroup");
    containerd.exec("bomb", &[], &["touch", "/go"]).run().success();
    let calls = "i=0; while [ $i -lt 500 ]; do /bin/true $i; i=$((i+1)); done";
    containerd.run("quiet", &["--rm"], &["sh", "-c", calls]).within(STORM).run().success();
    let close = subscriber.wait(STORM, "the end", |event| {
        event.kind() == "container.close" && event.container() == "quiet"
    });
    let (seen, delivered, lost) = account(&close);
    assert_eq!((seen, lost), (Some(delivered), Some(0)), "{close:?}");
    let all = subscriber.all();
    for number in 0..500 {
        let args = ["/bin/true".to_owned(), number.to_string()];
        let runs = all.iter().filter(|event| event.container() == "quiet" && event.args() == args);
        let kinds: Vec<&str> =
            runs.map(|event| event.kind()).filter(|kind| *kind != "process.done").collect();
        assert_eq!(kinds, ["process.start", "process.exit"], "of {number}");
    }
    containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "bomb"]).success();
    deadline::until("the bomb to be over", || {
        containerd.status("bomb").is_none_or(|status| status == "STOPPED")
    });
    containerd.remove("bomb");
    drop(subscriber);
    containerd.assert_nothing_left();
}
