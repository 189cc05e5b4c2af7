//! Output into clients' fifos.

use super::*;

/// Check that no output is lost at the end of a short-lived process (containerd issue 12364).
#[test]
fn every_byte_arrives_whatever_the_size() {
    run(async {
        let folder = Folder::new();
        let fifo = folder.fifo("out");
        for exponent in 20..=24 {
            for size in [(1 << exponent) - 1, 1 << exponent, (1 << exponent) + 1] {
                let expected = bytes(size);
                let (io, child) = begin(&fifo).await;
                let writer = process(child, expected.clone());
                let reader = client(&fifo, 64 << 10);
                assert!(joined(writer).await);
                assert!(io.drain(DRAIN).await);
                drop(io);
                assert_same(&joined(reader).await, &expected);
            }
        }
    });
}

/// Check the same for a client that reads a few bytes at a time, and opens the fifo when the
/// process is already blocked.
#[test]
fn a_slow_and_late_client_gets_every_byte() {
    run(async {
        let folder = Folder::new();
        let fifo = folder.fifo("out");
        let expected = bytes((1 << 20) + 1);
        let (io, child) = begin(&fifo).await;
        let watched = child.try_clone().unwrap();
        let writer = process(child, expected.clone());
        // The fifo is full, and so is the pipe behind it, so the process blocks.
        until(|| crate::sys::fd::bytes_waiting(&watched).unwrap() >= 64 << 10).await;
        drop(watched);
        let reader = client(&fifo, 100);
        assert!(joined(writer).await);
        assert!(io.drain(DRAIN).await);
        drop(io);
        assert_same(&joined(reader).await, &expected);
    });
}

/// Check that output that fits into a fifo outlives the process, its relay and the request to
/// delete it.
#[test]
fn a_client_that_opens_after_the_close_gets_the_output() {
    run(async {
        let folder = Folder::new();
        let fifo = folder.fifo("out");
        let (io, child) = begin(&fifo).await;
        assert!(joined(process(child, bytes(10_000))).await);
        assert!(io.drain(DRAIN).await);
        io.close();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_same(&joined(client(&fifo, 4096)).await, &bytes(10_000));
    });
}

/// Check that a slow client also gets the output that was still in the process's pipe when all was
/// closed.
#[test]
fn pipe_contents_at_the_close_are_delivered() {
    run(async {
        let folder = Folder::new();
        let fifo = folder.fifo("out");
        let expected = bytes(100_000);
        let (io, child) = begin(&fifo).await;
        assert!(joined(process(child, expected.clone())).await);
        assert!(!io.drain(BRIEFLY).await);
        io.close();
        assert_same(&joined(client(&fifo, 4096)).await, &expected);
    });
}

/// Check that output in many small writes fills a fifo no faster than output in one write: an
/// unread log of a few lines must not delay the deletion.
#[test]
fn many_small_lines_fit_into_an_unread_fifo() {
    run(async {
        let folder = Folder::new();
        let fifo = folder.fifo("out");
        let (io, child) = begin(&fifo).await;
        let mut child = File::from(child);
        for _ in 0..100 {
            child.write_all(&[b'x'; 59]).unwrap();
            // Each line is relayed separately.
            until(|| crate::sys::fd::bytes_waiting(&child).unwrap() == 0).await;
        }
        drop(child);
        assert!(io.drain(DRAIN).await);
        assert_eq!(joined(client(&fifo, 4096)).await.len(), 5_900);
    });
}

/// Check that a blocked relay waits and does not spin (conmon 2cf4dcd).
#[test]
fn a_blocked_relay_uses_no_cpu_time() {
    run(async {
        let folder = Folder::new();
        let (io, child) = begin(&folder.fifo("out")).await;
        let watched = child.try_clone().unwrap();
        let _writer = process(child, bytes(1 << 20));
        until(|| crate::sys::fd::bytes_waiting(&watched).unwrap() >= 60 << 10).await;
        let before = thread_cpu_time();
        assert!(!io.drain(Duration::from_millis(300)).await);
        assert!(thread_cpu_time() - before < Duration::from_millis(30));
    });
}

/// Check that a fifo that no client opens blocks no call (containerd issue 2877).
#[test]
fn an_unread_fifo_blocks_no_call() {
    run(async {
        let folder = Folder::new();
        let begun = Instant::now();
        let (io, child) = begin(&folder.fifo("out")).await;
        let writer = process(child, bytes(1 << 20));
        assert!(!io.drain(BRIEFLY).await);
        io.close_stdin();
        io.resize(80, 25).unwrap();
        drop(io);
        assert!(begun.elapsed() < Duration::from_secs(5));
        // The process is blocked, not killed. It would live until the 10 s are over; the test ends
        // earlier.
        assert!(!writer.is_finished());
    });
}

/// Check that a background child that holds the output delays the drain no longer than its limit
/// (containerd issue 3286), and that its later output is still relayed.
#[test]
fn a_background_child_delays_the_drain_no_longer_than_its_limit() {
    run(async {
        let folder = Folder::new();
        let fifo = folder.fifo("out");
        let (io, child) = begin(&fifo).await;
        let background = child.try_clone().unwrap();
        assert!(joined(process(child, b"first ".to_vec())).await);
        assert!(!io.drain(BRIEFLY).await);
        let reader = client(&fifo, 4096);
        assert!(joined(process(background, b"second".to_vec())).await);
        assert!(io.drain(DRAIN).await);
        assert_eq!(joined(reader).await, b"first second");
    });
}

/// Check that a client that leaves does not kill the process, and that the next client gets every
/// remaining byte (containerd issues 9342 and 11511: a restart of containerd).
#[test]
fn a_reconnecting_client_continues_to_read() {
    run(async {
        let folder = Folder::new();
        let fifo = folder.fifo("out");
        let expected = bytes(1 << 20);
        let (io, child) = begin(&fifo).await;
        let writer = process(child, expected.clone());
        let name = fifo.clone();
        let mut got = on_other_thread(move || {
            let mut part = vec![0; 300_000];
            File::open(name).unwrap().read_exact(&mut part).unwrap();
            part
        })
        .await;
        assert!(!writer.is_finished());
        let reader = client(&fifo, 64 << 10);
        assert!(joined(writer).await);
        assert!(io.drain(DRAIN).await);
        got.extend(joined(reader).await);
        assert_same(&got, &expected);
    });
}

/// Check that stdout and stderr go to their own fifos.
#[test]
fn two_streams_do_not_mix() {
    run(async {
        let folder = Folder::new();
        let (out, err) = (folder.fifo("out"), folder.fifo("err"));
        let mut io = open(&stdio("", &out, &err)).await;
        let child = io.child();
        io.release().await.unwrap();
        let readers = (client(&out, 4096), client(&err, 4096));
        assert!(joined(process(child.stdout.unwrap(), bytes(200_000))).await);
        assert!(joined(process(child.stderr.unwrap(), bytes(300_000))).await);
        assert!(io.drain(DRAIN).await);
        assert_same(&joined(readers.0).await, &bytes(200_000));
        assert_same(&joined(readers.1).await, &bytes(300_000));
    });
}

/// Check that a stream without a client's path is `/dev/null`, and that only the requested pipes
/// exist.
#[test]
fn no_path_means_no_descriptor() {
    run(async {
        let folder = Folder::new();
        let mut io = open(&stdio("", "", &folder.fifo("err"))).await;
        let child = io.child();
        assert!(child.stdin.is_none() && child.stdout.is_none() && child.stderr.is_some());
        let again = io.child();
        assert!(again.stderr.is_none());
        drop(child);
        assert!(io.drain(DRAIN).await);
    });
}

/// Check that the process's end of a pipe is blocking, as programs expect of their stdout, although
/// the shim's end is not.
#[test]
fn the_process_end_of_a_pipe_is_blocking() {
    run(async {
        use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
        let folder = Folder::new();
        let mut io = open(&stdio(&folder.fifo("in"), &folder.fifo("out"), "")).await;
        let child = io.child();
        for end in [child.stdin.unwrap(), child.stdout.unwrap()] {
            let flags = OFlag::from_bits_retain(fcntl(&end, FcntlArg::F_GETFL).unwrap());
            assert!(!flags.contains(OFlag::O_NONBLOCK));
            let flags = FdFlag::from_bits_retain(fcntl(&end, FcntlArg::F_GETFD).unwrap());
            assert!(flags.contains(FdFlag::FD_CLOEXEC));
        }
    });
}

/// Check that the path may be a symbolic link to a fifo, as containerd creates them.
#[test]
fn a_link_to_a_fifo_is_a_fifo() {
    run(async {
        let folder = Folder::new();
        std::os::unix::fs::symlink(folder.fifo("out"), folder.path("link")).unwrap();
        let (io, child) = begin(&folder.text("link")).await;
        let reader = client(&folder.text("out"), 4096);
        assert!(joined(process(child, b"x".to_vec())).await);
        assert!(io.drain(DRAIN).await);
        assert_eq!(joined(reader).await, b"x");
    });
}

/// Check that a path or URI that cannot be opened is named in the error.
#[test]
fn a_stream_that_cannot_be_opened_is_named() {
    run(async {
        let folder = Folder::new();
        let out = folder.fifo("out");
        let missing = folder.text("missing");
        for stdio in [stdio("", &missing, ""), stdio(&missing, &out, ""), stdio("", &out, &missing)]
        {
            let error = refusal(&stdio).await;
            assert!(error.to_string().contains(&missing), "{error}");
            let IoError::Open { source, .. } = error else { panic!("{error}") };
            assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
        }
        assert!(matches!(refusal(&stdio("in", "", "")).await, IoError::Relative { .. }));
        let unknown = refusal(&stdio("", "unix:///x", "")).await;
        assert!(matches!(unknown, IoError::UnknownScheme { scheme } if scheme == "unix"));
        assert!(matches!(refusal(&stdio("", &out, "binary:///x")).await, IoError::LoggerOnStderr));
    });
}
