//! Terminals. The test acts as the OCI runtime and as the process.

use std::os::{fd::AsRawFd as _, unix::net::UnixStream};

use nix::{
    pty::openpty,
    sys::{
        socket::{ControlMessage, MsgFlags, sendmsg},
        termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr},
    },
    unistd::ttyname,
};

use super::*;
use crate::sys::pty;

/// Hands over a terminal as runc does with `--console-socket`. The slave is raw, so bytes pass
/// unchanged.
pub(super) fn hand_over(socket: &Path) -> OwnedFd {
    let pty = openpty(None, None).unwrap();
    let mut mode = tcgetattr(&pty.slave).unwrap();
    cfmakeraw(&mut mode);
    tcsetattr(&pty.slave, SetArg::TCSANOW, &mode).unwrap();
    let stream = UnixStream::connect(socket).unwrap();
    let name = [std::io::IoSlice::new(b"/dev/ptmx")];
    let master = [pty.master.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&master)];
    sendmsg::<()>(stream.as_raw_fd(), &name, &rights, MsgFlags::empty(), None).unwrap();
    pty.slave
}

fn terminal(stdin: &str, stdout: &str) -> Stdio {
    Stdio { terminal: true, ..stdio(stdin, stdout, "") }
}

/// An opened and released stdio, and the slave that the process has.
async fn begin(stdin: &str, stdout: &str) -> (ProcessIo, File) {
    let mut io = open(&terminal(stdin, stdout)).await;
    drop(io.child());
    let slave = hand_over(io.console_socket().unwrap());
    io.release().await.unwrap();
    io.begin_input().unwrap();
    (io, File::from(slave))
}

/// Check that input arrives, that output arrives, and that the size is set.
#[test]
fn a_terminal_is_relayed_both_ways() {
    run(async {
        let folder = Folder::new();
        let (input, output) = (folder.fifo("in"), folder.fifo("out"));
        let (io, slave) = begin(&input, &output).await;
        io.resize(132, 43).unwrap();
        let reader = client(&output, 4096);
        OpenOptions::new().write(true).open(&input).unwrap().write_all(b"hello").unwrap();
        let slave = on_other_thread(move || {
            let mut slave = slave;
            let mut typed = [0; 5];
            slave.read_exact(&mut typed).unwrap();
            slave.write_all(&typed).unwrap();
            slave
        })
        .await;
        assert_eq!(pty::size(&slave).unwrap(), (132, 43));
        drop(slave);
        assert!(io.drain(DRAIN).await);
        assert_eq!(joined(reader).await, b"hello");
        // Resizing a terminal that is gone is no error.
        io.resize(80, 25).unwrap();
    });
}

/// Check that a large output is complete after the exit (containerd issue 3743).
#[test]
fn a_terminal_delivers_every_byte_after_the_exit() {
    run(async {
        let folder = Folder::new();
        let output = folder.fifo("out");
        let (io, slave) = begin("", &output).await;
        let reader = client(&output, 1000);
        assert!(joined(process(slave.into(), bytes(1_000_001))).await);
        assert!(io.drain(DRAIN).await);
        drop(io);
        assert_same(&joined(reader).await, &bytes(1_000_001));
    });
}

/// Check that an init may close its terminal and open it again, as systemd does.
#[test]
fn a_terminal_may_be_closed_and_opened_again() {
    run(async {
        let folder = Folder::new();
        let output = folder.fifo("out");
        let (io, mut slave) = begin("", &output).await;
        let reader = client(&output, 4096);
        let name = ttyname(&slave).unwrap();
        for word in ["one ", "two ", "three"] {
            slave.write_all(word.as_bytes()).unwrap();
            drop(slave);
            // Time for the relay to read the hang-up before the terminal is opened again.
            assert!(tokio::time::timeout(BRIEFLY, io.undrained.closed()).await.is_err());
            slave = OpenOptions::new().read(true).write(true).open(&name).unwrap();
        }
        drop(slave);
        assert!(io.drain(DRAIN).await);
        assert_eq!(joined(reader).await, b"one two three");
    });
}

/// Check that waiting for a terminal that no process has open uses hardly any CPU time.
#[test]
fn a_closed_terminal_uses_no_cpu_time() {
    run(async {
        let (io, slave) = begin("", "").await;
        let name = ttyname(&slave).unwrap();
        drop(slave);
        let before = thread_cpu_time();
        assert!(
            tokio::time::timeout(Duration::from_millis(200), io.undrained.closed()).await.is_err()
        );
        // Open again, and silent: epoll still reports the hang-up.
        let slave = OpenOptions::new().read(true).write(true).open(&name).unwrap();
        assert!(
            tokio::time::timeout(Duration::from_millis(200), io.undrained.closed()).await.is_err()
        );
        assert!(thread_cpu_time() - before < Duration::from_millis(40));
        drop(slave);
        assert!(io.drain(DRAIN).await);
    });
}

/// Check that the end of the client's input hangs up the terminal, after the input was delivered.
/// This ends the shell of a client that has disconnected.
#[test]
fn close_io_hangs_up_a_terminal() {
    run(async {
        let folder = Folder::new();
        let (input, output) = (folder.fifo("in"), folder.fifo("out"));
        let (io, slave) = begin(&input, &output).await;
        OpenOptions::new().write(true).open(&input).unwrap().write_all(b"exit\n").unwrap();
        io.close_stdin();
        let typed = on_other_thread(move || {
            let (mut slave, mut typed) = (slave, Vec::new());
            // Reading a slave without a master fails with EIO.
            let error = slave.read_to_end(&mut typed).unwrap_err();
            (typed, error.raw_os_error())
        });
        assert_eq!(typed.await, (b"exit\n".to_vec(), Some(libc::EIO)));
        assert!(io.drain(DRAIN).await);
    });
}

/// Check that a process that does not read its input delays neither its output nor the end.
#[test]
fn unread_terminal_input_does_not_delay_output() {
    run(async {
        let folder = Folder::new();
        let (input, output) = (folder.fifo("in"), folder.fifo("out"));
        let (io, slave) = begin(&input, &output).await;
        let typist =
            process(OpenOptions::new().write(true).open(&input).unwrap().into(), bytes(1 << 20));
        let reader = client(&output, 4096);
        assert!(joined(process(slave.into(), bytes(100_000))).await);
        assert!(io.drain(DRAIN).await);
        drop(io);
        assert_same(&joined(reader).await, &bytes(100_000));
        assert!(!joined(typist).await);
    });
}

/// Check that the output goes to a file, and is discarded if the client asked for none.
#[test]
fn a_terminal_may_write_to_a_file_or_be_discarded() {
    run(async {
        let folder = Folder::new();
        for output in [format!("file://{}", folder.text("log")), String::new()] {
            let (io, slave) = begin("", &output).await;
            assert!(joined(process(slave.into(), bytes(300_000))).await);
            assert!(io.drain(DRAIN).await);
        }
        assert_same(&std::fs::read(folder.path("log")).unwrap(), &bytes(300_000));
    });
}

/// Check that the socket is private and short, and is removed when the terminal has been received.
#[test]
fn the_console_socket_is_private_and_removed() {
    run(async {
        use std::os::unix::fs::PermissionsExt as _;
        let mut io = open(&terminal("", "")).await;
        let socket = io.console_socket().unwrap().to_owned();
        let folder = socket.parent().unwrap().to_owned();
        assert!(socket.as_os_str().len() < 106);
        assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        let slave = hand_over(&socket);
        io.release().await.unwrap();
        io.begin_input().unwrap();
        assert!(io.console_socket().is_none());
        assert!(!folder.exists());
        drop(slave);

        let unused = open(&terminal("", "")).await;
        let folder = unused.console_socket().unwrap().parent().unwrap().to_owned();
        drop(unused);
        assert!(!folder.exists());
    });
}

/// Check that a runtime's output is quoted with a terminal too: the runtime has a stdout and a
/// stderr of its own.
#[test]
fn a_runtime_that_fails_with_a_terminal_is_quoted() {
    run(async {
        let mut io = open(&terminal("", "")).await;
        let child = io.child();
        assert!(child.stdin.is_none());
        assert!(joined(process(child.stdout.unwrap(), bytes(300_000))).await);
        assert!(joined(process(child.stderr.unwrap(), b" no such tty".to_vec())).await);
        assert!(io.runtime_output().ends_with(" no such tty"));
    });
}

/// Check that a descriptor that is not a terminal is refused.
#[test]
fn a_descriptor_that_is_no_terminal_is_refused() {
    run(async {
        let mut io = open(&terminal("", "")).await;
        let stream = UnixStream::connect(io.console_socket().unwrap()).unwrap();
        let null = File::open("/dev/null").unwrap();
        let rights = [null.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&rights)];
        let data = [std::io::IoSlice::new(b"x")];
        sendmsg::<()>(stream.as_raw_fd(), &data, &rights, MsgFlags::empty(), None).unwrap();
        assert!(matches!(io.release().await, Err(IoError::Console(_))));
    });
}
