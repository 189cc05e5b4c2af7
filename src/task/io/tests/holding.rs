//! Output before the release, which a runtime may have printed.

use super::*;

/// Check that a runtime that prints more than a pipe holds, and then fails, is not blocked by an
/// absent client and is quoted (runc issue 2530, containerd issue 4434).
#[test]
fn a_failed_runtime_is_quoted_however_much_it_printed() {
    run(async {
        let folder = Folder::new();
        let mut io = open(&stdio("", &folder.fifo("out"), &folder.fifo("err"))).await;
        let child = io.child();
        let mut stderr = bytes(300_000);
        stderr.extend_from_slice(b"\nruntime: no such thing\n");
        let writers = (
            process(child.stdout.unwrap(), bytes(300_000)),
            process(child.stderr.unwrap(), stderr),
        );
        assert!(joined(writers.0).await && joined(writers.1).await);
        let quote = io.runtime_output();
        assert!(quote.ends_with("\nruntime: no such thing\n"), "{quote}");
        // The conversion to UTF-8 replaces an invalid byte by three bytes.
        assert!(quote.len() <= 3 * (4 << 10));
    });
}

/// Check that the quote is complete even if no task has run since the runtime died.
#[test]
fn the_quote_includes_unread_pipe_contents() {
    run(async {
        let folder = Folder::new();
        let mut io = open(&stdio("", "", &folder.fifo("err"))).await;
        // There is no await before this, so no relay has run on this thread.
        assert!(process(io.child().stderr.unwrap(), b"last words".to_vec()).join().unwrap());
        assert_eq!(io.runtime_output(), "last words");
        io.release().await.unwrap();
        assert_eq!(io.runtime_output(), "");
    });
}

/// Check that an exec's process that prints before its runtime has returned loses no output, and
/// that its order is kept.
#[test]
fn held_output_is_delivered_first() {
    run(async {
        let folder = Folder::new();
        let fifo = folder.fifo("out");
        let expected = bytes(900_000);
        let mut io = open(&stdio("", &fifo, "")).await;
        let mut child = File::from(io.child().stdout.unwrap());
        let (early, late) = (expected[..500_000].to_vec(), expected[500_000..].to_vec());
        let child = on_other_thread(move || {
            child.write_all(&early).unwrap();
            child
        })
        .await;
        let reader = client(&fifo, 64 << 10);
        io.release().await.unwrap();
        assert!(joined(process(child.into(), late)).await);
        assert!(io.drain(DRAIN).await);
        assert_same(&joined(reader).await, &expected);
    });
}

/// Check that output beyond the limit of the buffer reaches the client before the release, in
/// order, and that its beginning can still be quoted.
#[test]
fn output_beyond_the_hold_limit_does_not_wait_for_the_release() {
    run(async {
        let folder = Folder::new();
        let fifo = folder.fifo("out");
        let expected = bytes(3 << 20);
        let mut io = open(&stdio("", &fifo, "")).await;
        let reader = client(&fifo, 64 << 10);
        let writer = process(io.child().stdout.unwrap(), expected.clone());
        assert!(joined(writer).await);
        assert!(!io.runtime_output().is_empty());
        io.release().await.unwrap();
        assert!(io.drain(DRAIN).await);
        assert_same(&joined(reader).await, &expected);
    });
}

/// Check that a failed runtime's output does not reach the client as if it were the container's.
#[test]
fn unreleased_output_is_not_delivered() {
    run(async {
        let folder = Folder::new();
        let fifo = folder.fifo("out");
        let mut io = open(&stdio("", &fifo, "")).await;
        // Opened before the other end closes: a later open would wait for a writer for ever.
        let client = File::open(&fifo).unwrap();
        let reader = thread::spawn(move || read_to_end(client, 4096));
        assert!(joined(process(io.child().stdout.unwrap(), b"panic: runtime".to_vec())).await);
        until(|| io.runtime_output() == "panic: runtime").await;
        drop(io);
        assert_eq!(joined(reader).await, b"");
    });
}
