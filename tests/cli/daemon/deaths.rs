//! Measures how soon the daemon knows an exit with its code.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use lookout::{
    api::{AddRequest, Selector},
    client,
};

use super::{Daemon, Node, PATIENCE};

/// The number of exits that are measured.
const EXITS: u8 = 200;

/// The promised latency. The test compares it with the median, which a loaded machine disturbs
/// little.
const PROMISED: Duration = Duration::from_millis(50);

/// Check that exits are known in time, with their codes. Prints the measured latencies.
#[test]
fn an_exit_is_known_in_time_with_its_code() {
    let node = Node::new();
    let _daemon = Daemon::start(&node);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut taken = runtime.block_on(async {
        let daemon =
            client::Daemon::connect(&node.path().join("daemon.sock")).await.expect("it serves");
        let mut taken = Vec::new();
        for code in 1..=EXITS {
            taken.push(latency(&daemon, code).await);
        }
        taken
    });
    taken.sort_unstable();
    let at = |percent: usize| taken[(taken.len() - 1) * percent / 100];
    eprintln!(
        "{EXITS} exits: median {:?}, 99 of 100 within {:?}, longest {:?}",
        at(50),
        at(99),
        at(100)
    );
    assert!(at(50) < PROMISED, "{taken:?}");
}

/// The time from closing the stdin of a shell until the daemon answers with its exit code. Includes
/// the exit and the reaping of the shell, and the request.
async fn latency(daemon: &client::Daemon, code: u8) -> Duration {
    let mut shell = Command::new("sh");
    let shell = shell.args(["-c", &format!("read line; exit {code}")]).stdin(Stdio::piped());
    let mut child = shell.spawn().expect("it runs");
    let pid = i32::try_from(child.id()).expect("a pid");
    let added = daemon.add(&AddRequest { pid, ..Default::default() }).await.expect("it lives");
    let selector = Selector { ids: vec![added.entry.get_or_default().id], ..Default::default() };
    let began = Instant::now();
    drop(child.stdin.take());
    child.wait().expect("a child");
    loop {
        let entries = daemon.list(&selector).await.expect("it answers");
        if let Some(end) = entries.first().and_then(|entry| entry.end.as_ref())
            && end.code.is_some()
        {
            assert_eq!(end.code, Some(code));
            return began.elapsed();
        }
        assert!(began.elapsed() < PATIENCE, "{entries:?}");
    }
}
