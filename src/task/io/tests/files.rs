//! Output into files.

use super::*;

/// Check that a full disk does not stop a container (containerd issue 12462).
#[test]
fn a_full_disk_does_not_stop_the_process() {
    run(async {
        let (io, child) = begin("/dev/full").await;
        assert!(joined(process(child, bytes(1 << 20))).await);
        assert!(io.drain(DRAIN).await);
    });
}

/// Check that `file://` creates missing directories, appends, and takes both streams.
#[test]
fn a_file_uri_takes_both_streams_and_appends() {
    run(async {
        let folder = Folder::new();
        let uri = format!("file://{}", folder.text("deep/er/log"));
        let mut expected = 0;
        for _ in 0..2 {
            let mut io = open(&stdio("", &uri, &uri)).await;
            let child = io.child();
            io.release().await.unwrap();
            assert!(joined(process(child.stdout.unwrap(), vec![b'o'; 200_000])).await);
            assert!(joined(process(child.stderr.unwrap(), vec![b'e'; 100_000])).await);
            assert!(io.drain(DRAIN).await);
            expected += 300_000;
            let log = std::fs::read(folder.path("deep/er/log")).unwrap();
            assert_eq!(log.len(), expected);
            assert_eq!(log.iter().filter(|byte| **byte == b'e').count() * 3, expected);
        }
    });
}

/// Check that a plain path may be a file, which is appended to and never created.
#[test]
fn a_plain_path_may_be_a_file() {
    run(async {
        let folder = Folder::new();
        let log = folder.text("log");
        std::fs::write(&log, "before ").unwrap();
        let mut io = open(&stdio("", &log, &log)).await;
        let child = io.child();
        io.release().await.unwrap();
        assert!(joined(process(child.stdout.unwrap(), b"out ".to_vec())).await);
        until(|| std::fs::read(&log).unwrap() == b"before out ").await;
        assert!(joined(process(child.stderr.unwrap(), b"err".to_vec())).await);
        assert!(io.drain(DRAIN).await);
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "before out err");
    });
}

/// Check that a large output arrives complete and in order.
#[test]
fn a_file_gets_every_byte() {
    run(async {
        let folder = Folder::new();
        let (io, child) = begin(&format!("file://{}", folder.text("log"))).await;
        assert!(joined(process(child, bytes((1 << 23) + 1))).await);
        assert!(io.drain(DRAIN).await);
        assert_same(&std::fs::read(folder.path("log")).unwrap(), &bytes((1 << 23) + 1));
    });
}

/// Check that output that is in the pipe when all is closed is written too.
#[test]
fn pipe_contents_at_the_close_are_written() {
    run(async {
        let folder = Folder::new();
        let (io, child) = begin(&format!("file://{}", folder.text("log"))).await;
        let background = child.try_clone().unwrap();
        assert!(process(child, bytes(60_000)).join().unwrap());
        drop(io);
        until(|| std::fs::metadata(folder.path("log")).unwrap().len() == 60_000).await;
        drop(background);
    });
}
