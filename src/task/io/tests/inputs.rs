//! Input from clients.

use super::*;

/// A process that reads its input to the end.
fn reading(stdin: OwnedFd) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        File::from(stdin).read_to_end(&mut all).unwrap();
        all
    })
}

fn type_into(fifo: &str, what: Vec<u8>) -> JoinHandle<()> {
    let mut fifo = OpenOptions::new().write(true).open(fifo).unwrap();
    thread::spawn(move || fifo.write_all(&what).unwrap())
}

async fn begin_input(stdin: &str) -> (ProcessIo, OwnedFd) {
    let mut io = open(&stdio(stdin, "", "")).await;
    let child = io.child().stdin.unwrap();
    io.release().await.unwrap();
    io.begin_input().unwrap();
    (io, child)
}

/// Check that clients may come and go, that only CloseIO ends the input, and that a second CloseIO
/// changes nothing.
#[test]
fn only_close_io_ends_the_input() {
    run(async {
        let folder = Folder::new();
        let fifo = folder.fifo("in");
        let (io, child) = begin_input(&fifo).await;
        let process = reading(child);
        let expected = bytes(1 << 20);
        joined(type_into(&fifo, expected[..400_000].to_vec())).await;
        joined(type_into(&fifo, expected[400_000..].to_vec())).await;
        assert!(!process.is_finished());
        io.close_stdin();
        io.close_stdin();
        assert_same(&joined(process).await, &expected);
    });
}

/// Check that CloseIO does not cut off a client that is still writing.
#[test]
fn close_io_waits_for_the_client_to_close_its_end() {
    run(async {
        let folder = Folder::new();
        let fifo = folder.fifo("in");
        let (io, child) = begin_input(&fifo).await;
        let client = OpenOptions::new().write(true).open(&fifo).unwrap();
        io.close_stdin();
        let process = reading(child);
        assert!(joined(super::process(client.into(), bytes(500_000))).await);
        assert_same(&joined(process).await, &bytes(500_000));
    });
}

/// Check that a process that closes its input unread ends the relay, and that a client notices it.
#[test]
fn a_client_notices_that_the_process_closed_its_input() {
    run(async {
        let folder = Folder::new();
        let fifo = folder.fifo("in");
        let (io, child) = begin_input(&fifo).await;
        drop(child);
        // The relay ends, and with it the last reader. Opening for writing then fails with ENXIO.
        until(|| is_refused(&fifo)).await;
        drop(io);
    });
}

/// Check the same when a process ends and its child still has the input open.
#[test]
fn the_input_ends_with_the_process() {
    run(async {
        let folder = Folder::new();
        let fifo = folder.fifo("in");
        let (io, child) = begin_input(&fifo).await;
        let background = reading(child);
        io.exited();
        assert_eq!(joined(background).await, b"");
        until(|| is_refused(&fifo)).await;
    });
}

fn is_refused(fifo: &str) -> bool {
    use std::os::unix::fs::OpenOptionsExt as _;
    let opened = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(fifo);
    opened.is_err_and(|error| error.raw_os_error() == Some(libc::ENXIO))
}

/// Check that the input may be a file, and ends with it.
#[test]
fn the_input_may_be_a_file() {
    run(async {
        let folder = Folder::new();
        std::fs::write(folder.path("in"), bytes(200_001)).unwrap();
        let (io, child) = begin_input(&folder.text("in")).await;
        assert_same(&joined(reading(child)).await, &bytes(200_001));
        io.close_stdin();
        let (_io, child) = begin_input("/dev/null").await;
        assert_eq!(joined(reading(child)).await, b"");
    });
}
