//! Before the release: what a runtime prints.

use super::*;

/// Check that a runtime that prints more than a pipe holds, and fails, is not blocked by an absent
/// client and can be quoted (runc issue 2530, containerd issue 4434).
#[test]
fn a_failed_runtime_is_quoted_however_much_it_printed() {
    run(async {
        let folder = Folder::new();
        let mut io = open(&stdio("", &folder.fifo("out"), &folder.fifo("err"))).await;
        let child = io.child();
        let mut last_words = bytes(300_000);
        last_words.extend_from_slice(b"\nruntime: no such thing\n");
        let writers = (
            process(child.stdout.unwrap(), bytes(300_000)),
            process(child.stderr.unwrap(), last_words),
        );
        assert!(joined(writers.0).await && joined(writers.1).await);
        let quote = io.runtime_output();
        assert!(quote.ends_with("\nruntime: no such thing\n"), "{quote}");
        // Lossy: a byte that is not UTF-8 becomes three.
        assert!(quote.len() <= 3 * (4 << 10));
    });
}

/// Check that the quote is complete although no task of ours has run since the runtime died.
#[test]
fn the_quote_includes_what_is_still_in_the_pipe() {
    run(async {
        let folder = Folder::new();
        let mut io = open(&stdio("", "", &folder.fifo("err"))).await;
        // Without an await: nothing else runs on this thread.
        assert!(process(io.child().stderr.unwrap(), b"last words".to_vec()).join().unwrap());
        assert_eq!(io.runtime_output(), "last words");
        io.release().await.unwrap();
        assert_eq!(io.runtime_output(), "");
    });
}

/// Check that an exec's process that is faster than its runtime loses nothing and keeps its order.
#[test]
fn what_was_held_goes_first() {
    run(async {
        let folder = Folder::new();
        let fifo = folder.fifo("out");
        let wanted = bytes(900_000);
        let mut io = open(&stdio("", &fifo, "")).await;
        let mut child = File::from(io.child().stdout.unwrap());
        let (early, late) = (wanted[..500_000].to_vec(), wanted[500_000..].to_vec());
        let child = beside(move || {
            child.write_all(&early).unwrap();
            child
        })
        .await;
        let reader = client(&fifo, 64 << 10);
        io.release().await.unwrap();
        assert!(joined(process(child.into(), late)).await);
        assert!(io.drain(DRAIN).await);
        assert_same(&joined(reader).await, &wanted);
    });
}

/// Check that more than is held reaches the client without the release, in its order; and that its
/// beginning can still be quoted.
#[test]
fn more_than_is_held_does_not_wait_for_the_release() {
    run(async {
        let folder = Folder::new();
        let fifo = folder.fifo("out");
        let wanted = bytes(3 << 20);
        let mut io = open(&stdio("", &fifo, "")).await;
        let reader = client(&fifo, 64 << 10);
        let writer = process(io.child().stdout.unwrap(), wanted.clone());
        assert!(joined(writer).await);
        assert!(!io.runtime_output().is_empty());
        io.release().await.unwrap();
        assert!(io.drain(DRAIN).await);
        assert_same(&joined(reader).await, &wanted);
    });
}

/// Check that a failed runtime's words do not reach the client as if they were the container's.
#[test]
fn what_was_never_released_is_not_delivered() {
    run(async {
        let folder = Folder::new();
        let fifo = folder.fifo("out");
        let mut io = open(&stdio("", &fifo, "")).await;
        // Open before the other end closes: one that came later would wait for a writer for ever.
        let client = File::open(&fifo).unwrap();
        let reader = thread::spawn(move || read_to_end(client, 4096));
        assert!(joined(process(io.child().stdout.unwrap(), b"panic: runtime".to_vec())).await);
        until(|| io.runtime_output() == "panic: runtime").await;
        drop(io);
        assert_eq!(joined(reader).await, b"");
    });
}
