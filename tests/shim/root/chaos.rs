//! Random deaths: a shim, a runtime, containerd or a helper process of the shim is killed or
//! stopped at a random moment of a random request. After each round nothing may be left, and
//! containerd must see what is there.
//!
//! `hack/chaos` runs more rounds, or again with a given seed.

use std::{
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nix::sys::signal::Signal;

use super::setting;
use crate::harness::{
    Process,
    containerd::{Containerd, Program, Version},
};

/// How many rounds there are if `LOOKOUT_CHAOS_ROUNDS` is not set.
const ROUNDS: u64 = 8;

/// The longest time of one client, which may wait for a process that was stopped.
const CLIENT: Duration = Duration::from_secs(60);

/// The longest time until an exit is seen, and until everything is removed.
const SEEN: Duration = Duration::from_secs(10);
const REMOVED: Duration = Duration::from_secs(20);

/// How long a stopped process stays stopped.
const STOPPED: Duration = Duration::from_millis(500);

/// The most microseconds from the beginning of the request to the search for the victim, and how
/// long the victim is searched for: a runtime lives for some milliseconds.
const MOMENT_MAX: usize = 60_000;
const SEARCH: Duration = Duration::from_millis(200);

/// Who dies or is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Shim,
    Runtime,
    Containerd,
    Helper,
}

/// What happens in a round.
#[derive(Debug, Clone, Copy)]
struct Plan {
    victim: Victim,
    /// Whether the victim is killed; otherwise it is stopped for a while.
    kills: bool,
    /// The request in which it happens, an index of [`REQUESTS`], and how long after its beginning.
    request: usize,
    moment: Duration,
}

/// The requests of a round, in order.
const REQUESTS: [&str; 5] = ["run", "exec", "kill", "delete", "remove"];

/// The pseudorandom numbers of a seed (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let end = u64::try_from(end).expect("usize is 64 bits");
        usize::try_from((mixed ^ (mixed >> 31)) % end).expect("less than end")
    }
}

impl Plan {
    fn of(seed: u64) -> Self {
        let mut random = Random(seed);
        let mut below = |end| random.below(end);
        let victims = [Victim::Shim, Victim::Runtime, Victim::Containerd, Victim::Helper];
        Self {
            victim: victims[below(4)],
            kills: below(3) > 0,
            // After the last request there is no shim any more.
            request: below(REQUESTS.len() - 1),
            moment: Duration::from_micros(below(MOMENT_MAX) as u64),
        }
    }
}

/// Check that after each of many random deaths nothing is left, and that no exit is lost while its
/// shim lives.
#[test]
fn random_deaths_leave_nothing() {
    let rounds = setting("LOOKOUT_CHAOS_ROUNDS").unwrap_or(ROUNDS);
    let seed = setting("LOOKOUT_CHAOS_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        now.as_secs() % 1_000_000 * 1000
    });
    let mut failed = Vec::new();
    let mut struck = [0; 4];
    // One daemon at a time, because each has the mount namespace of this thread. Even seeds are for
    // the first version, odd ones for the second.
    for version in [Version::V1_7, Version::V2_1] {
        let odd = u64::from(version == Version::V2_1);
        let mut node = Containerd::start(version);
        for seed in (seed..seed + rounds).filter(|seed| seed % 2 == odd) {
            let plan = Plan::of(seed);
            let ended = round(&mut node, &format!("c{seed}"), plan);
            println!("seed {seed}: {plan:?}: {ended:?}");
            match ended {
                Ok(true) => struck[plan.victim as usize] += 1,
                Ok(false) => {}
                Err(_) => failed.push(seed),
            }
        }
    }
    let [shims, runtimes, daemons, helpers] = struck;
    println!(
        "{rounds} rounds: {shims} shims, {runtimes} runtimes, {daemons} daemons, {helpers} helpers \
         struck; {} rounds failed",
        failed.len()
    );
    assert!(failed.is_empty(), "run again with LOOKOUT_CHAOS_SEED: {failed:?}");
}

fn run(node: &Containerd, id: &str) -> Program {
    node.run(id, &["--detach"], &["sh", "-c", "sleep 1000 & sleep 1000"])
}

fn is_stale_snapshot(error: &str) -> bool {
    error.contains("io.containerd.snapshotter") && error.contains("file exists")
}

/// Runs one round. Returns whether the victim was there at its moment.
fn round(node: &mut Containerd, id: &str, plan: Plan) -> Result<bool, String> {
    let mut struck = false;
    for (index, request) in REQUESTS.iter().enumerate() {
        let client = match *request {
            "run" => run(node, id),
            "exec" => node.exec(id, &[], &["sh", "-c", "exit 3"]),
            "kill" => node.program(&["task", "kill", "--signal", "KILL", id]),
            "delete" => node.program(&["task", "rm", id]),
            _ => node.program(&["container", "rm", id]),
        };
        let client = client.within(CLIENT).spawn();
        if index == plan.request {
            thread::sleep(plan.moment);
            struck = strike(node, id, plan);
        }
        let mut ended = client.wait();
        // A containerd that was killed while it made a snapshot leaves its directory, and cannot
        // make the next one before it has collected its garbage.
        let began = Instant::now();
        while is_stale_snapshot(&ended.stderr_text()) && began.elapsed() < REMOVED {
            thread::sleep(STOPPED);
            ended = run(node, id).within(CLIENT).run();
        }
        if index < plan.request && ended.code != 0 && *request != "exec" {
            return Err(format!("{request} failed: {}", ended.stderr_text()));
        }
        let killed = ended.code == 0 && *request == "kill";
        if killed && !(struck && plan.victim == Victim::Shim && plan.kills) {
            wait(SEEN, || match node.status(id) {
                Some(status) if status != "STOPPED" => Err(format!("the exit is lost: {status}")),
                _ => Ok(()),
            })?;
        }
    }
    match remove(node, id) {
        // containerd runs no `delete` for a shim that died before the first connection, or after
        // the last container was deleted and before its Shutdown. So nothing is left that could
        // remove the socket's file. The next `start` of the id does.
        Err(left)
            if struck
                && [0, 3].contains(&plan.request)
                && left.starts_with("left: file /run/containerd/s/") =>
        {
            let again = node.run(id, &["--detach"], &["true"]).within(CLIENT).run();
            if again.code != 0 {
                return Err(format!("{left}, and it cannot run again: {}", again.stderr_text()));
            }
            remove(node, id)?;
        }
        removed => removed?,
    }
    Ok(struck)
}

/// Kills or stops the victim. Returns whether there was one.
fn strike(node: &mut Containerd, id: &str, plan: Plan) -> bool {
    if plan.victim == Victim::Containerd && plan.kills {
        node.kill_9();
        node.restart();
        return true;
    }
    let begun = Instant::now();
    let victim = loop {
        match find(node, id, plan.victim) {
            Some(victim) => break victim,
            None if begun.elapsed() > SEARCH => return false,
            None => {}
        }
    };
    if plan.kills {
        return victim.kill();
    }
    let stopped = victim.signal(Signal::SIGSTOP);
    thread::sleep(STOPPED);
    victim.signal(Signal::SIGCONT);
    stopped
}

fn find(node: &Containerd, id: &str, victim: Victim) -> Option<Process> {
    let program = |process: &Process| process.command_line().first().cloned().unwrap_or_default();
    match victim {
        Victim::Containerd => node.daemon_pid().map(Process::new),
        Victim::Shim => node.shims().remove(id),
        Victim::Runtime => {
            node.processes().into_iter().find(|process| program(process).ends_with("/runc"))
        }
        Victim::Helper => {
            let shims: Vec<i32> = node.shims().into_values().map(|shim| shim.pid).collect();
            let is_shim = |process: &Process| program(process).contains("containerd-shim-lookout");
            // containerd does not run the verb `delete` after a `start` that was killed, so its
            // socket stays until the next `start` of the same pod.
            let is_verb = |process: &Process| {
                process.command_line().iter().any(|word| word == "start" || word == "delete")
            };
            let mut others = node.processes().into_iter().filter(is_shim);
            others.find(|process| !shims.contains(&process.pid) && !is_verb(process))
        }
    }
}

/// Removes what the requests of the round did not, as an orchestrator would, and checks that
/// nothing is left of the container.
fn remove(node: &Containerd, id: &str) -> Result<(), String> {
    wait(REMOVED, || {
        let listed = node.ctr(&["container", "ls", "--quiet"]).success().stdout_text();
        if node.status(id).is_none() && !listed.lines().any(|line| line == id) {
            return Ok(());
        }
        let task = node.program(&["task", "rm", "--force", id]).within(CLIENT).run();
        let container = node.program(&["container", "rm", id]).within(CLIENT).run();
        match (task.code, container.code) {
            (_, 0) => Ok(()),
            _ => Err(format!("not removed: {} {}", task.stderr_text(), container.stderr_text())),
        }
    })?;
    // A client removes its fifos together with the task, which is not possible when the task ended
    // with its shim.
    let is_fifo = |what: &String| what.starts_with("file /run/containerd/fifo/");
    // containerd renames a bundle before it removes it. One that is killed in between leaves it,
    // and does not look at it again.
    let renamed = format!("/.{id}");
    let is_renamed = |what: &String| match what.strip_prefix("file ") {
        Some(path) if path.ends_with(&renamed) => std::fs::remove_dir_all(path).is_ok(),
        _ => false,
    };
    wait(REMOVED, || {
        let left: Vec<_> =
            node.leftovers().into_iter().filter(|it| !is_fifo(it) && !is_renamed(it)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("left: {}", left.join("; "))) }
    })
}

/// Repeats `check` until it succeeds, or returns its last error after `within`.
fn wait(within: Duration, check: impl Fn() -> Result<(), String>) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        match check() {
            Err(why) if begun.elapsed() > within => return Err(why),
            Err(_) => thread::sleep(Duration::from_millis(50)),
            Ok(()) => return Ok(()),
        }
    }
}
