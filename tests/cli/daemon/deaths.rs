//! How soon an end is known with its code.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use lookout::{
    api::{AddRequest, Selector},
    client,
};

use super::{Daemon, Node, PATIENCE};

/// How many are measured.
const DEATHS: u8 = 200;

/// How soon an end is known: as it is promised, for half of them, whatever else the machine does.
const PROMISED: Duration = Duration::from_millis(50);

/// Check that an end is known in time, with its code; what was measured is printed.
#[test]
fn an_end_is_known_in_time_with_its_code() {
    let node = Node::new();
    let _daemon = Daemon::start(&node);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut taken = runtime.block_on(async {
        let daemon =
            client::Daemon::connect(&node.path().join("daemon.sock")).await.expect("it serves");
        let mut taken = Vec::new();
        for code in 1..=DEATHS {
            taken.push(death(&daemon, code).await);
        }
        taken
    });
    taken.sort_unstable();
    let at = |percent: usize| taken[(taken.len() - 1) * percent / 100];
    eprintln!(
        "{DEATHS} ends: median {:?}, 99 of 100 within {:?}, longest {:?}",
        at(50),
        at(99),
        at(100)
    );
    assert!(at(50) < PROMISED, "{taken:?}");
}

/// From the last word to a process until the daemon answers with its code: its own way to the end
/// is part of it, and so are its reaping and the question.
async fn death(daemon: &client::Daemon, code: u8) -> Duration {
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
