//! A daemon with a runtime directory of its own, and what its history has.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use lookout::{
    api::{Event, HistoryEventsRequest, HistoryState, event::Body},
    client::Daemon as Client,
};
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

/// The longest wait on a busy machine before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A runtime directory with a daemon. Dropping it kills the daemon.
pub(crate) struct Node {
    folder: TempDir,
    settings: Vec<(String, String)>,
    /// A command that starts the daemon; empty: none.
    wrapper: Vec<String>,
    daemon: Option<Child>,
}

impl Node {
    pub(crate) fn new(settings: &[(&str, &str)]) -> Self {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Self {
            // A short path, because a socket's path must fit into 107 bytes.
            folder: tempfile::Builder::new().prefix("lk").tempdir_in("/tmp").unwrap(),
            settings: settings.iter().map(owned).collect(),
            wrapper: Vec::new(),
            daemon: None,
        }
    }

    /// Starts the daemon by a command that executes the arguments that follow its own.
    pub(crate) fn wrap(&mut self, command: &[&str]) {
        self.wrapper = command.iter().map(|word| (*word).to_owned()).collect();
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path().join("registry/history.db")
    }

    /// Starts the daemon, and waits until it has both of its sockets: it makes that of the metrics
    /// after its own.
    pub(crate) fn start(&mut self) {
        self.spawn();
        let sockets = ["daemon.sock", "metrics.sock"].map(|name| self.path().join(name));
        let accepts = |path| std::os::unix::net::UnixStream::connect(path).is_ok();
        self.until("the daemon to serve", || sockets.iter().all(accepts));
    }

    /// Starts the daemon, without waiting for it.
    pub(crate) fn spawn(&mut self) {
        let log =
            File::options().create(true).append(true).open(self.path().join("daemon.log")).unwrap();
        let line = [
            self.wrapper.iter().map(String::as_str).collect(),
            vec!["setpriv", "--pdeathsig", "KILL", env!("CARGO_BIN_EXE_lookout"), "daemon"],
        ]
        .concat();
        let mut command = Command::new(line[0]);
        command.args(&line[1..]).env("LOOKOUT_RUNTIME_DIR", self.path());
        command.env("LOOKOUT_CONFIG", "/dev/null");
        command.envs(self.settings.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.daemon = Some(command.spawn().unwrap());
    }

    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.settings.push((key.to_owned(), value.to_owned()));
    }

    pub(crate) fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    /// Kills the daemon with SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// Stops the daemon with SIGTERM, as systemd does.
    pub(crate) fn stop(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(daemon.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(daemon.wait().unwrap().success(), "{}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path().join("daemon.log")).unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn until(&self, what: &str, is: impl FnMut() -> bool) {
        self.until_within(PATIENCE, what, is);
    }

    #[track_caller]
    pub(crate) fn until_within(&self, limit: Duration, what: &str, mut is: impl FnMut() -> bool) {
        let deadline = Instant::now() + limit;
        while !is() {
            assert!(Instant::now() < deadline, "waited in vain for {what}:\n{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// A connection that reads the database, as sqlite3 does.
    pub(crate) fn read(&self) -> Connection {
        let connection =
            Connection::open_with_flags(self.database(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        connection.busy_timeout(PATIENCE).unwrap();
        connection
    }

    /// The seq of the last stored event of a shim; 0 if there is none.
    pub(crate) fn cursor(&self, epoch: &str) -> u64 {
        let select = "SELECT seq FROM shims WHERE epoch = ?1";
        // A daemon that has just been started makes the file after its socket.
        if !self.database().exists() {
            return 0;
        }
        self.read().query_row(select, [epoch], |row| row.get(0)).unwrap_or_default()
    }

    /// The value of one of the daemon's metrics.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        use std::io::{Read as _, Write as _};
        let path = self.path().join("metrics.sock");
        let mut socket = std::os::unix::net::UnixStream::connect(path).unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    /// The client's answer to a request for events.
    pub(crate) fn events(&self, request: &HistoryEventsRequest) -> (HistoryState, Vec<Event>) {
        run(async {
            let client = Client::connect(&self.path().join("daemon.sock")).await.unwrap();
            let mut answer = client.history_events(request).await.unwrap();
            let (mut state, mut events) = (HistoryState::default(), Vec::new());
            while let Some(message) = answer.next().await.unwrap() {
                state = message.state.unwrap_or_default();
                events.extend(message.events);
            }
            (state, events)
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work)
}

/// What the events of one shim are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// The numbers of the events, in the order of the answer.
    pub(crate) seqs: Vec<u64>,
    /// The sum of what the gaps report as lost.
    pub(crate) lost: u64,
    /// Gaps that do not say how many events are missing.
    pub(crate) uncounted: u64,
}

impl Account {
    /// How many numbers up to `last` are missing.
    pub(crate) fn missing(&self, last: u64) -> u64 {
        last - self.seqs.len() as u64
    }

    /// Asserts that each number occurs once and in order.
    #[track_caller]
    pub(crate) fn assert_in_order(&self) {
        let wrong = self.seqs.windows(2).find(|pair| pair[0] >= pair[1]);
        assert_eq!(wrong, None);
    }
}

/// The accounts of the shims of which there are events, by epoch.
pub(crate) fn accounts(events: &[Event]) -> BTreeMap<String, Account> {
    let mut accounts: BTreeMap<String, Account> = BTreeMap::new();
    for event in events {
        let account = accounts.entry(event.epoch.clone()).or_default();
        if event.seq > 0 {
            account.seqs.push(event.seq);
        }
        if let Some(Body::Gap(gap)) = &event.body {
            account.lost += gap.lost.unwrap_or_default();
            account.uncounted += u64::from(gap.lost.is_none());
        }
    }
    accounts
}
