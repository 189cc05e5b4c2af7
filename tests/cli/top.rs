//! `lookout top` on a real terminal.

mod screen;

use std::{
    os::fd::{AsFd, OwnedFd},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use lookout::{
    api::{ContainerProcess, Process},
    linux::process::identify,
};
use nix::{
    pty::{Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{LocalFlags, Termios, tcgetattr},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use self::screen::Shown;
use super::{
    daemon::{Daemon, Sleeper, ok},
    fake::{Node, Script},
    run::{PATIENCE, command, run},
    script::{alive, container, exit, open_ports, process, start},
};

/// `lookout top` on a terminal of its own. Dropping it kills it.
struct Top {
    child: Child,
    shown: Shown,
    /// Stays open here, so that the modes can be read after the end of the command.
    terminal: OwnedFd,
    before: Termios,
}

impl Top {
    fn start(node: &Node, args: &[&str], size: (u16, u16)) -> Self {
        use std::os::unix::process::CommandExt as _;
        let winsize = Winsize { ws_row: size.1, ws_col: size.0, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&winsize), None).expect("a terminal");
        let before = tcgetattr(&pty.slave).expect("modes");
        let end = || Stdio::from(pty.slave.try_clone().expect("a descriptor"));
        let mut command = command(node, &[&["top"], args].concat());
        command.env("TZ", "UTC").env("TERM", "xterm").env("LC_ALL", "C.UTF-8");
        // A process group of its own: Ctrl-Z stops the whole group.
        command.stdin(end()).stdout(end()).stderr(end()).process_group(0);
        let child = command.spawn().expect("it runs");
        drop(command);
        Self { child, shown: Shown::of(pty.master, size), terminal: pty.slave, before }
    }

    fn press(&self, keys: &str) {
        self.shown.press(keys.as_bytes());
    }

    /// Waits until the screen satisfies a condition, and returns its lines.
    #[track_caller]
    fn wait(&self, what: &str, is: impl Fn(&[String]) -> bool) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let lines = self.shown.lines();
            if is(&lines) {
                return lines;
            }
            assert!(
                Instant::now() < deadline,
                "{what} is not on the screen:\n{}",
                lines.join("\n")
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[track_caller]
    fn wait_for(&self, text: &str) -> Vec<String> {
        self.wait(text, |lines| lines.iter().any(|line| line.contains(text)))
    }

    #[track_caller]
    fn wait_without(&self, text: &str) -> Vec<String> {
        self.wait(&format!("no {text}"), |lines| !lines.iter().any(|line| line.contains(text)))
    }

    /// Waits until a signal has stopped the command.
    #[track_caller]
    fn wait_for_stop(&self) {
        let deadline = Instant::now() + PATIENCE;
        let flags = WaitPidFlag::WUNTRACED | WaitPidFlag::WNOHANG;
        while !matches!(waitpid(self.pid(), Some(flags)), Ok(WaitStatus::Stopped(..))) {
            assert!(Instant::now() < deadline, "it was not stopped");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"))
    }

    fn modes(&self) -> Termios {
        tcgetattr(self.terminal.as_fd()).expect("modes")
    }

    fn is_raw(&self) -> bool {
        !self.modes().local_flags.contains(LocalFlags::ICANON)
    }

    /// Waits for the end of the command, and checks that the terminal is as before.
    #[track_caller]
    fn end(mut self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(Instant::now() < deadline, "it still runs:\n{}", self.shown.lines().join("\n"));
            thread::sleep(Duration::from_millis(5));
        };
        self.assert_restored();
        status.code().expect("no signal ended it")
    }

    #[track_caller]
    fn assert_restored(&self) {
        let (now, before) = (self.modes(), &self.before);
        assert_eq!(now.local_flags, before.local_flags);
        assert_eq!(now.input_flags, before.input_flags);
        assert_eq!(now.output_flags, before.output_flags);
        assert_eq!(now.control_chars, before.control_chars);
        let deadline = Instant::now() + PATIENCE;
        while self.shown.is_alternate() || !self.shown.has_cursor() {
            assert!(Instant::now() < deadline, "the alternate screen is still shown");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn node() -> (Node, super::fake::Fake) {
    let node = Node::new();
    let script = Script { processes: alive("web"), ports: open_ports("web"), ..Default::default() };
    let shim = node.shim("web", script);
    (node, shim)
}

/// A process of a container that really lives.
fn real(id: &str, sleeper: &Sleeper) -> ContainerProcess {
    let pid: i32 = sleeper.pid().parse().expect("a pid");
    let key = identify(pid).expect("it lives");
    let process = Process {
        entity_id: key.entity_id(0xc0ff_ee00).to_string(),
        ..process(pid, 0, &["sleep", "1000"])
    };
    ContainerProcess {
        container: Some(container(id)).into(),
        process: Some(process).into(),
        ..Default::default()
    }
}

/// Check that the first screen does not wait for usage: it comes while the CPU rate of a process
/// that lives is still unknown, and long before the interval has passed.
#[test]
fn the_first_screen_comes_before_the_first_rates() {
    let sleeper = Sleeper::new();
    let node = Node::new();
    let script = Script { processes: vec![real("web", &sleeper)], ..Default::default() };
    let _shim = node.shim("web", script);
    let begun = Instant::now();
    let top = Top::start(&node, &["--interval", "1h"], (100, 24));
    let lines = top.wait_for("sleep 1000");
    // 500 ms with slack for a loaded machine.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let row = lines.iter().find(|line| line.contains("sleep 1000")).expect("a row");
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!((cells[0], cells[2]), (sleeper.pid().as_str(), "-"), "{row}");
    // The rates come after half a second, not after the interval.
    top.wait("a rate", |lines| {
        let row = lines.iter().find(|line| line.contains("sleep 1000"));
        row.is_some_and(|row| row.split_whitespace().nth(2) == Some("0.0"))
    });
    top.press("q");
    assert_eq!(top.end(), 0);
}

/// Check that trees, ports and hostile arguments are shown, and that new events change the rows.
#[test]
fn rows_follow_the_events() {
    let (node, shim) = node();
    let top = Top::start(&node, &["web"], (100, 24));
    let lines = top.wait_for("work $'\\x1b[2Jit\\'s'");
    let row = |text: &str| lines.iter().find(|line| line.contains(text)).expect("a row").clone();
    assert!(row("work $'").contains("8080"), "{}", row("work $'"));
    assert!(row("sleep 1").contains("└─"), "{}", row("sleep 1"));
    shim.emit(start(1, "web", process(4300, 4016, &["/bin/newcomer"])));
    top.wait_for("/bin/newcomer");
    shim.emit(exit(2, "web", process(4300, 4016, &["/bin/newcomer"]), 3));
    top.wait("an exit", |lines| {
        let shown: Vec<_> = lines.iter().filter(|line| line.contains("/bin/newcomer")).collect();
        shown.len() == 1 && shown[0].contains("exit 3")
    });
    top.press("/it's\r");
    top.wait_without("sleep 9");
    top.press("\x1b");
    top.wait_for("sleep 9");
    top.press("q");
    assert_eq!(top.end(), 0);
}

/// Check that a shim that starts later adds its processes, and takes them with it when it ends.
#[test]
fn shims_come_and_go() {
    let (node, _shim) = node();
    let top = Top::start(&node, &[], (80, 24));
    top.wait_for("sleep 9");
    let mut owner = Sleeper::new();
    let database = ContainerProcess {
        container: Some(container("db")).into(),
        process: Some(process(5000, 0, &["/bin/database"])).into(),
        ..Default::default()
    };
    let script = Script { processes: vec![database], ..Default::default() };
    let shim = node.shim_of(owner.pid().parse().expect("a pid"), "db", script);
    top.wait_for("/bin/database");
    owner.end();
    drop(shim);
    let lines = top.wait_without("/bin/database");
    assert!(lines.iter().any(|line| line.contains("sleep 9")), "{lines:#?}");
    top.press("q");
    assert_eq!(top.end(), 0);
}

/// Check that a larger and a smaller terminal get a whole new screen, without leftovers.
#[test]
fn a_resize_draws_everything_again() {
    let (node, _shim) = node();
    let top = Top::start(&node, &[], (120, 30));
    top.wait_for("sleep 9");
    for size in [(60, 16), (132, 40), (40, 8)] {
        top.shown.resize(size);
        // It is no controlling terminal, so the kernel does not know whom to signal.
        kill(top.pid(), Signal::SIGWINCH).expect("it lives");
        let lines = top.wait("the last line", |lines| {
            lines.last().is_some_and(|line| line.starts_with("q quit"))
        });
        assert_eq!(lines.iter().filter(|line| line.contains("q quit")).count(), 1, "{lines:#?}");
        assert_eq!(lines.iter().filter(|line| line.contains("COMMAND")).count(), 1, "{lines:#?}");
    }
    kill(top.pid(), Signal::SIGTERM).expect("it lives");
    assert_eq!(top.end(), 0);
}

/// Check that Ctrl-Z gives the terminal back, and that the screen and the keys work after SIGCONT,
/// also if the shell has set other modes and has written into the terminal.
#[test]
fn the_screen_works_after_a_stop() {
    let (node, _shim) = node();
    let top = Top::start(&node, &[], (80, 24));
    for keys in ["\x1a", ""] {
        top.wait_for("sleep 9");
        match keys {
            // As `kill -TSTP` does.
            "" => kill(top.pid(), Signal::SIGTSTP).expect("it lives"),
            keys => top.press(keys),
        }
        top.wait_for_stop();
        top.assert_restored();
        top.shown.write(b"\x1b[2J\x1b[Hrubbish of the shell");
        kill(top.pid(), Signal::SIGCONT).expect("it lives");
        top.wait_for("sleep 9");
        top.wait_without("rubbish");
        assert!(top.is_raw() && top.shown.is_alternate());
        top.press("?");
        top.wait_for("send a signal");
        top.press("?");
        top.wait_without("send a signal");
    }
    top.press("\x03");
    assert_eq!(top.end(), 0);
}

/// Check that a signal is sent only after it was chosen and confirmed, to the selected process.
#[test]
fn a_kill_asks_first() {
    let (mut victim, mut other) = (Sleeper::new(), Sleeper::new());
    let node = Node::new();
    let processes = vec![real("web", &victim), real("web", &other)];
    let _shim = node.shim("web", Script { processes, ..Default::default() });
    let top = Top::start(&node, &["--sort", "pid"], (80, 24));
    top.wait_for("sleep 1000");
    // Below the container is the process with the lower pid.
    if victim.pid().parse::<i32>().expect("a pid") > other.pid().parse::<i32>().expect("a pid") {
        std::mem::swap(&mut victim, &mut other);
    }
    top.press("\x1b[Bk");
    top.wait_for(&format!("Send a signal to process {}", victim.pid()));
    top.press("\r");
    top.wait_for(&format!("Send TERM to process {}?", victim.pid()));
    top.press("\x1b");
    top.wait_without("Send ");
    top.press("kkill\r");
    top.wait_for(&format!("Send KILL to process {}?", victim.pid()));
    assert!(victim.is_alive());
    top.press("y");
    top.wait_for(&format!("sent signal 9 to process {}", victim.pid()));
    victim.wait();
    assert!(other.is_alive());
    top.press("q");
    assert_eq!(top.end(), 0);
}

/// Check that registered processes are shown with their descendants, and that without a daemon the
/// screen says why there are none.
#[test]
fn registered_processes_are_shown() {
    let node = Node::new();
    let top = Top::start(&node, &[], (80, 24));
    top.wait_for("no daemon answers");
    let _daemon = Daemon::start(&node);
    let shell = Sleeper::of(
        std::process::Command::new("sh").args(["-c", "(read line); :"]).stdin(Stdio::piped()),
    );
    ok(&node, &["add", &shell.pid(), "--name", "job"]);
    top.wait_for("└─ sh -c '(read line); :'");
    // The subshell ends with the pipe that the test holds. Of a descendant the daemon has one text.
    top.wait_for("   └─ 'sh -c (read line); :'");
    top.wait_without("no daemon answers");
    top.press("q");
    assert_eq!(top.end(), 0);
}

/// Check that a container that does not exist is reported after the terminal was restored.
#[test]
fn an_unknown_container_is_an_error() {
    let (node, _shim) = node();
    let top = Top::start(&node, &["nothing"], (80, 24));
    top.wait_for("container nothing not found");
    assert_eq!(top.end(), 3);
    // Without a terminal the daemon is asked, as before.
    let batch = run(&node, &["top", "--count", "1"]);
    assert!(batch.code == 4 && batch.err.contains("no daemon"), "{batch:?}");
}
