//! How much memory a shim needs for the processes of a container, and that it gives it back.

use std::{fs, thread, time::Duration};

use super::{STORM, kill_and_remove, storm_mounts};
use crate::harness::{
    containerd::{Containerd, Version},
    deadline,
    tools::tool,
};

/// The proportional set size of a process in bytes, of what it has for itself: without its ring and
/// without the pages of files, which are its code and which the kernel can read again.
fn pss(pid: u64) -> i64 {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).expect("the shim runs");
    let (mut counts, mut sum) = (false, 0);
    for line in smaps.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            // Range, permissions, offset, device, inode (0 without a file), name.
            [range, _, _, _, inode, ..] if range.contains('-') => counts = inode == "0",
            ["Pss:", size, _] if counts => sum += size.parse::<i64>().expect("a size in kB"),
            _ => {}
        }
    }
    sum * 1024
}

/// The time after which a shim has processed what has happened.
const SETTLE: Duration = Duration::from_secs(2);

/// What a shim needs for processes that live at the same time.
#[derive(Debug)]
struct Measured {
    /// In bytes, for each process.
    each: i64,
    /// In bytes, when no more is given back after they have exited, compared with before.
    left: i64,
}

/// Runs a container with as many living processes, each with an argument of this length.
fn measure(count: usize, length: usize) -> Measured {
    // A debug build on a busy machine is slow, and what the ring loses needs no memory.
    let containerd = Containerd::start_configured(Version::V1_7, "ring_size = \"4MiB\"\n");
    // All events would be much work for the subscriber.
    let subscriber = containerd.subscribe_to(&["--type", "container.close"]);
    let mut flags = storm_mounts();
    let crowd = tool("storm/bin/crowd");
    let mount = format!("type=bind,src={},dst=/crowd,options=rbind:ro", crowd.display());
    flags.extend(["--mount".to_owned(), mount]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let wait = format!("until [ -e /go ]; do usleep 10000; done; exec /crowd {count} {length}");
    containerd.detached("c", &flags, &["sh", "-c", &wait]);
    // So that the journal is full before.
    let storm = ["task", "exec", "--exec-id", "storm", "c", "/storm", "6000", "1", "0"];
    containerd.program(&storm).within(STORM).run().success();
    let shim = u64::try_from(containerd.shim("c").pid).expect("a pid");
    thread::sleep(SETTLE);
    let before = pss(shim);
    containerd.exec("c", &[], &["touch", "/go"]).run().success();
    let pids = containerd.cgroup("pids", "c").join("pids.current");
    let living = || {
        let text = fs::read_to_string(&pids).expect("the container's cgroup");
        text.trim().parse::<usize>().expect("a number")
    };
    deadline::within(STORM, "all processes to live", || living() == count + 1);
    thread::sleep(SETTLE);
    let during = pss(shim);
    let listed = || {
        let list = containerd.lookout(&["ps", "--container", "c", "-q"]);
        list.within(STORM).run().success().stdout_text().lines().count()
    };
    assert_eq!(listed(), count + 1, "processes listed");
    containerd.exec("c", &[], &["sh", "-c", "kill -9 -1"]).within(STORM).run();
    deadline::within(STORM, "all processes to end", || living() == 1 && listed() == 1);
    // On a busy machine the shim still handles the exits.
    let mut after = pss(shim);
    loop {
        thread::sleep(Duration::from_secs(1));
        let now = pss(shim);
        if now >= after {
            break;
        }
        after = now;
    }
    let close = kill_and_remove(&containerd, &subscriber, "c");
    assert_eq!(close.number("/lost"), Some(0), "{close:?}");
    drop(subscriber);
    containerd.assert_nothing_left();
    let each = (during - before) / i64::try_from(count).expect("a number");
    let measured = Measured { each, left: after - before };
    println!("{count} processes with {length} bytes: {measured:?}");
    measured
}

/// Check that living processes with short arguments need at most 512 bytes each, that all of them
/// are listed, and that what they needed is given back.
#[test]
fn a_living_process_takes_few_bytes() {
    let Measured { each, left } = measure(8000, 8);
    assert!(each <= 512, "{each} bytes for a process");
    assert!(left <= 1 << 20, "{left} bytes are left");
}

/// Check the same with the most processes that a node with the default pid_max has room for, and
/// with arguments that are not all kept.
#[test]
#[ignore = "takes minutes; hack/attack runs it"]
fn a_crowd_takes_what_the_documentation_says() {
    let Measured { each, left } = measure(24_000, 8);
    assert!(each <= 512, "{each} bytes for a process");
    assert!(left <= 1 << 20, "{left} bytes are left");
    let Measured { each, left } = measure(24_000, 4000);
    // Of the arguments, 4 MiB are kept.
    assert!(each <= 512 + (4 << 20) / 24_000, "{each} bytes for a process");
    // Small pieces that live on lie between the large ones that are freed.
    assert!(left <= 2 << 20, "{left} bytes are left");
}
