//! Terminals: the test is runtime and process at once.

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

/// What runc does with `--console-socket`. The slave is raw: bytes pass as they are.
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

/// Opened and released; with the slave that the process has.
async fn begin(stdin: &str, stdout: &str) -> (ProcessIo, File) {
    let mut io = open(&terminal(stdin, stdout)).await;
    drop(io.child());
    let slave = hand_over(io.console_socket().unwrap());
    io.release().await.unwrap();
    io.begin_input().unwrap();
    (io, File::from(slave))
}

/// Check that what is typed arrives, that the answer does, and that the size is set.
#[test]
fn a_terminal_is_relayed_both_ways() {
    run(async {
        let folder = Folder::new();
        let (input, output) = (folder.fifo("in"), folder.fifo("out"));
        let (io, slave) = begin(&input, &output).await;
        io.resize(132, 43).unwrap();
        let reader = client(&output, 4096);
        OpenOptions::new().write(true).open(&input).unwrap().write_all(b"hello").unwrap();
        let slave = beside(move || {
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
        // A terminal that is gone is no error of its client.
        io.resize(80, 25).unwrap();
    });
}

/// Check that a large output is not cut off at the exit (containerd issue 3743).
#[test]
fn a_terminal_gives_every_byte_after_the_exit() {
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
            // The relay meets the hang-up before the terminal is opened again.
            assert!(tokio::time::timeout(BRIEFLY, io.undrained.closed()).await.is_err());
            slave = OpenOptions::new().read(true).write(true).open(&name).unwrap();
        }
        drop(slave);
        assert!(io.drain(DRAIN).await);
        assert_eq!(joined(reader).await, b"one two three");
    });
}

/// Check that a terminal that nobody has open is waited for at leisure.
#[test]
fn a_terminal_that_is_closed_takes_no_time() {
    run(async {
        let (io, slave) = begin("", "").await;
        let name = ttyname(&slave).unwrap();
        drop(slave);
        let before = time_of_this_thread();
        assert!(
            tokio::time::timeout(Duration::from_millis(200), io.undrained.closed()).await.is_err()
        );
        // Open again, and silent: epoll goes on to tell of the hang-up.
        let slave = OpenOptions::new().read(true).write(true).open(&name).unwrap();
        assert!(
            tokio::time::timeout(Duration::from_millis(200), io.undrained.closed()).await.is_err()
        );
        assert!(time_of_this_thread() - before < Duration::from_millis(40));
        drop(slave);
        assert!(io.drain(DRAIN).await);
    });
}

/// Check that the end of the client's input hangs the terminal up, after what was typed: so ends
/// the shell of a client that disconnected.
#[test]
fn close_io_hangs_a_terminal_up() {
    run(async {
        let folder = Folder::new();
        let (input, output) = (folder.fifo("in"), folder.fifo("out"));
        let (io, slave) = begin(&input, &output).await;
        OpenOptions::new().write(true).open(&input).unwrap().write_all(b"exit\n").unwrap();
        io.close_stdin();
        let typed = beside(move || {
            let (mut slave, mut typed) = (slave, Vec::new());
            // A slave whose master is gone is in error: EIO.
            let error = slave.read_to_end(&mut typed).unwrap_err();
            (typed, error.raw_os_error())
        });
        assert_eq!(typed.await, (b"exit\n".to_vec(), Some(libc::EIO)));
        assert!(io.drain(DRAIN).await);
    });
}

/// Check that a process that reads nothing holds up neither its output nor the end.
#[test]
fn a_terminal_whose_input_nobody_reads_still_gives_its_output() {
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

/// Check that the output goes to a file as well, and nowhere where none is asked for.
#[test]
fn a_terminal_may_write_to_a_file_or_to_nobody() {
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

/// Check that the socket is private, short, and gone as soon as the terminal came.
#[test]
fn the_console_socket_is_private_and_goes() {
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

/// Check that a runtime with a terminal can be quoted: it has a stdout and a stderr of its own.
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

/// Check that something that is no terminal is refused.
#[test]
fn what_comes_must_be_a_terminal() {
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
