//! Nothing is left behind. The first test runs in a process of its own, because it counts the
//! descriptors of that process.

use super::*;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Check that descriptors return to the baseline after 200 processes of each kind, and after 200
/// that failed to start (containerd issues 11885 and 7604).
#[test]
fn no_descriptor_outlives_its_process() {
    if !runs_alone("leaks::no_descriptor_outlives_its_process") {
        return;
    }
    run(async {
        let folder = Folder::new();
        let (input, out, err) = (folder.fifo("in"), folder.fifo("out"), folder.fifo("err"));
        let file = format!("file://{}", folder.text("log"));
        let missing = folder.text("missing");
        let temporary = entries(&std::env::temp_dir());
        // The threads for files stay, or end after a while.
        let (before, threads_before) = (descriptors(), threads() + 1);
        for _ in 0..200 {
            let (io, child) = begin(&out).await;
            drop(child);
            assert!(io.drain(DRAIN).await);
            drop(io);

            // Dropped after each step: opened, handed out, released.
            let pipes = stdio(&input, &out, &err);
            drop(open(&pipes).await);
            let mut io = open(&pipes).await;
            let child = io.child();
            io.release().await.unwrap();
            io.begin_input().unwrap();
            drop(io);
            drop(child);
            drop(open(&stdio("", &file, &file)).await);

            let terminal = Stdio { terminal: true, ..stdio(&input, &out, "") };
            drop(open(&terminal).await);
            let mut io = open(&terminal).await;
            let slave = terminals::hand_over(io.console_socket().unwrap());
            io.release().await.unwrap();
            io.begin_input().unwrap();
            drop((io, slave));

            refusal(&stdio(&input, &out, &missing)).await;
            refusal(&stdio("", &missing, "")).await;
            refusal(&Stdio { terminal: true, ..stdio(&missing, &out, "") }).await;
            refusal(&Stdio { terminal: true, ..stdio(&input, &missing, "") }).await;
        }
        until(|| descriptors() <= before).await;
        assert!(threads() <= threads_before, "{threads_before} then {}", threads());
        assert_eq!(entries(&std::env::temp_dir()), temporary);
    });
}

/// The number of the shim's own entries in the directory for temporary files.
fn entries(folder: &Path) -> usize {
    let ours = |name: &std::ffi::OsString| name.as_encoded_bytes().starts_with(b"lookout-pty-");
    std::fs::read_dir(folder)
        .unwrap()
        .filter(|entry| ours(&entry.as_ref().unwrap().file_name()))
        .count()
}

/// Check that the end of the tokio runtime also ends a relay that waits for an absent client (rust
/// extensions issue 337), so that nothing keeps a shim from exiting.
#[test]
fn a_runtime_ends_with_unread_fifos() {
    let folder = Folder::new();
    let fifo = folder.fifo("out");
    let begun = Instant::now();
    let writer = run(async {
        let (io, child) = begin(&fifo).await;
        let writer = process(child, bytes(1 << 20));
        assert!(!io.drain(BRIEFLY).await);
        drop(io);
        tokio::task::yield_now().await;
        writer
    });
    // The pipe was closed while the process was writing to it.
    assert!(!writer.join().unwrap());
    assert!(begun.elapsed() < Duration::from_secs(5));
}
