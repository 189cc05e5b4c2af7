//! `lookout daemon` with real shims.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use lookout::{
    api::{AddRequest, ContainerPort, ContainerProcess, StatusResponse},
    client::{Daemon, Shim, registrations},
};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::ports;
use crate::harness::{
    Process,
    containerd::{Containerd, Version},
    deadline,
    tools::tool,
};

/// The period in which the daemon is killed once a second.
const STORM: Duration = Duration::from_secs(60);
/// How many shims start and end in that period.
const SHIMS: usize = 50;
/// How many of them run at a time.
const AT_ONCE: usize = 5;
/// The longest time until the daemon's view is the same as the shims'.
const SETTLED: Duration = Duration::from_secs(30);

/// Check that a daemon that is killed and restarted every second for a minute, while 50 shims start
/// and end under load, finally has the same view of processes and ports as the shims; and that its
/// stream has each event of each shim once and in order, or a gap for what is missing.
#[test]
fn a_daemon_that_is_killed_each_second_ends_with_the_shims_view() {
    let mut containerd = Containerd::start(Version::V1_7);
    containerd.use_own_bpffs();
    let runtime_dir = containerd.path("lookout");
    // Otherwise the first shim creates it.
    fs::create_dir_all(&runtime_dir).expect("our directory is writable");
    let is_over = AtomicBool::new(false);
    let (kills, names) = thread::scope(|scope| {
        let killer = scope.spawn(|| kill_each_second(&runtime_dir, &is_over));
        let names = start_and_end_shims(&containerd);
        is_over.store(true, Ordering::Relaxed);
        (killer.join().expect("it kills"), names)
    });
    assert!(kills >= 30, "killed {kills} times only");
    let mut daemon = start(&runtime_dir);
    // Once nothing changes, the shims' list and the daemon's can be compared.
    for name in &names {
        containerd.ctr(&["task", "kill", "--signal", "SIGSTOP", "--all", name]).success();
    }
    let mut differ = String::new();
    deadline::within(SETTLED, "the daemon's view to be the shims'", || {
        let (ours, theirs) = (view(&runtime_dir), shims_view(&runtime_dir));
        differ = format!("{ours:?} is not {theirs:?}");
        theirs.ports.len() >= 2 * AT_ONCE && ours == theirs
    });
    let newest = newest_of_shims(&runtime_dir);
    deadline::within(SETTLED, "the stream to have all", || {
        let streamed = stream(&runtime_dir);
        newest.iter().all(|(epoch, seq)| streamed.last.get(epoch) >= Some(seq))
    });
    assert_stream_is_complete(&runtime_dir, kills);
    for name in &names {
        containerd.ctr(&["task", "kill", "--signal", "SIGKILL", "--all", name]).success();
        containerd.remove(name);
    }
    deadline::within(SETTLED, "the daemon to know that all have gone", || {
        view(&runtime_dir) == View::default()
    });
    daemon.kill().expect("our own child");
    daemon.wait().expect("our own child");
}

/// Starts shims under load, spread over [`STORM`], and ends the oldest so that [`AT_ONCE`] run.
/// Returns the containers that still run.
fn start_and_end_shims(containerd: &Containerd) -> Vec<String> {
    let began = Instant::now();
    let mut names = Vec::new();
    for number in 0..SHIMS {
        let name = format!("c{number}");
        let work = "/ports hold 0.0.0.0 80 & /ports udp 0.0.0.0 53 & \
                    while :; do /ports short 2 1000 1000; usleep 100000; done";
        let work = format!("exec >/dev/null; {work}");
        containerd.detached(&name, &["--mount", &ports::mount()], &["sh", "-c", &work]);
        names.push(name);
        if names.len() > AT_ONCE {
            let oldest = names.remove(0);
            containerd.ctr(&["task", "kill", "--signal", "SIGKILL", &oldest]).success();
            containerd.remove(&oldest);
        }
        // Spread over the whole period.
        let turn =
            STORM * u32::try_from(number + 1).expect("few") / u32::try_from(SHIMS).expect("few");
        thread::sleep(turn.saturating_sub(began.elapsed()));
    }
    names
}

/// Asserts that the daemon's stream has no hole without a gap and no duplicate, and that it has a
/// gap for each time without a daemon.
fn assert_stream_is_complete(runtime_dir: &Path, kills: usize) {
    let streamed = stream(runtime_dir);
    assert_eq!(streamed.wrong, Vec::<String>::new());
    assert!(streamed.last.len() > SHIMS / 2, "only {} shims were followed", streamed.last.len());
    // Each daemon that served reports a gap for the time without a daemon. One may have been killed
    // before it did.
    let log = fs::read_to_string(runtime_dir.join("daemon.log")).expect("a log");
    let served = log.lines().filter(|line| line.contains("msg=\"daemon serving\"")).count();
    assert!(
        served > SHIMS / 2 && (served..=kills + 1).contains(&streamed.absences),
        "{served}: {}",
        streamed.absences
    );
    eprintln!(
        "{kills} kills, {} shims, {} events, {} gaps",
        streamed.last.len(),
        streamed.events,
        streamed.gaps
    );
}

/// Check that Prometheus can scrape the daemon: it reports the target as up, with the daemon's
/// values.
#[test]
fn prometheus_scrapes_the_metrics() {
    let directory =
        tempfile::Builder::new().prefix("lk").tempdir_in("/tmp").expect("/tmp is writable");
    let free = || {
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
    };
    let (target, prometheus) = (free().to_string(), free().to_string());
    let mut daemon = command(directory.path());
    let mut daemon =
        daemon.env("LOOKOUT_METRICS_ADDRESS", &target).spawn().expect("setpriv of util-linux");
    deadline::until("the daemon to serve", || TcpStream::connect(&target).is_ok());
    let added = run(async {
        let daemon = Daemon::connect(&directory.path().join("daemon.sock")).await?;
        let pid = i32::try_from(std::process::id()).expect("a pid");
        daemon.add(&AddRequest { pid, ..Default::default() }).await
    });
    added.expect("we live");
    let config = directory.path().join("prometheus.yml");
    let scrape = format!(
        "scrape_configs:\n- job_name: lookout\n  scrape_interval: 1s\n  static_configs:\n\
         \x20 - targets: ['{target}']\n"
    );
    fs::write(&config, scrape).expect("our directory is writable");
    let mut scraper = Command::new("setpriv");
    scraper.args(["--pdeathsig", "KILL"]).arg(tool("prometheus-2/bin/prometheus"));
    scraper.arg(format!("--config.file={}", config.display()));
    scraper.arg(format!("--storage.tsdb.path={}", directory.path().join("tsdb").display()));
    scraper.arg(format!("--web.listen-address={prometheus}"));
    let log = fs::File::create(directory.path().join("prometheus.log"))
        .expect("our directory is writable");
    let mut scraper =
        scraper.stdout(log.try_clone().expect("a handle")).stderr(log).spawn().expect("setpriv");
    for (query, value) in [
        ("up", "1"),
        ("lookout_living_entries", "1"),
        ("lookout_shims", "0"),
        ("lookout_oldest_unpublished_seconds", "0"),
    ] {
        deadline::until(query, || answer(&prometheus, query).is_some_and(|answer| answer == value));
    }
    for child in [&mut scraper, &mut daemon] {
        child.kill().expect("our own child");
        child.wait().expect("our own child");
    }
}

/// Check that an exit which containerd cannot receive is reported as unpublished, with its age, by
/// the shim and by the daemon; and that nothing is unpublished once containerd is back.
#[test]
fn undelivered_events_are_reported_as_unpublished() {
    let mut containerd = Containerd::start(Version::V2_1);
    containerd.use_own_bpffs();
    let runtime_dir = containerd.path("lookout");
    containerd.detached("c", &[], &["sleep", "1000"]);
    let init = Process::new(containerd.pid("c"));
    let mut daemon = start(&runtime_dir);
    let nothing = || unpublished(&runtime_dir) == Some([1.0, 0.0, 0.0]);
    deadline::until("nothing to be unpublished", nothing);
    assert_eq!(status(&runtime_dir).oldest_unpublished_ns, None);

    containerd.kill_9();
    init.signal(Signal::SIGKILL);
    let waits =
        || unpublished(&runtime_dir).filter(|[shims, events, _]| (*shims, *events) == (1.0, 1.0));
    deadline::until("the exit to wait", || waits().is_some_and(|[.., oldest]| oldest > 0.0));
    deadline::until("it to grow old", || waits().is_some_and(|[.., oldest]| oldest > 1.0));
    let answer = status(&runtime_dir);
    assert_eq!((answer.unpublished_events, answer.unpublished_bytes > 0), (1, true), "{answer:?}");

    containerd.restart();
    deadline::until("nothing to be unpublished again", nothing);
    daemon.kill().expect("our own child");
    daemon.wait().expect("our own child");
    containerd.remove("c");
    containerd.remove_own_bpffs();
    containerd.assert_nothing_left();
}

/// The status of the only shim.
fn status(runtime_dir: &Path) -> StatusResponse {
    run(async {
        let registration = registrations(runtime_dir, None).expect("a directory").remove(0);
        Shim::connect(registration).await.expect("it serves").status().await.expect("it answers")
    })
}

/// From the daemon's metrics: how many shims answered, how many of their events are unpublished,
/// and the age of the oldest in seconds. `None` if the daemon does not answer.
fn unpublished(runtime_dir: &Path) -> Option<[f64; 3]> {
    let mut socket = UnixStream::connect(runtime_dir.join("metrics.sock")).ok()?;
    socket.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").ok()?;
    let mut text = String::new();
    socket.read_to_string(&mut text).ok()?;
    let number = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a number")
    };
    let names = [
        "lookout_shims_answering",
        "lookout_unpublished_events",
        "lookout_oldest_unpublished_seconds",
    ];
    Some(names.map(number))
}

/// The value that Prometheus has for a query with one series; `None` if there is none.
fn answer(prometheus: &str, query: &str) -> Option<String> {
    let mut connection = TcpStream::connect(prometheus).ok()?;
    write!(connection, "GET /api/v1/query?query={query} HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    connection.read_to_string(&mut text).ok()?;
    let (_, body) = text.split_once("\r\n\r\n")?;
    let answer: Value = serde_json::from_str(body).ok()?;
    answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
}

/// Kills and restarts the daemon once a second until `is_over`. Returns how often it was killed.
fn kill_each_second(runtime_dir: &Path, is_over: &AtomicBool) -> usize {
    let mut kills = 0;
    while !is_over.load(Ordering::Relaxed) {
        let mut daemon = start(runtime_dir);
        thread::sleep(Duration::from_secs(1));
        daemon.kill().expect("our own child");
        daemon.wait().expect("our own child");
        kills += 1;
    }
    kills
}

/// Starts a daemon for a runtime directory. It ends with the test, or by a kill.
pub(super) fn start(runtime_dir: &Path) -> Child {
    command(runtime_dir).spawn().expect("setpriv of util-linux")
}

fn command(runtime_dir: &Path) -> Command {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(runtime_dir.join("daemon.log"))
        .expect("a log");
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_lookout"), "daemon"]);
    command
        .env("LOOKOUT_RUNTIME_DIR", runtime_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    command
}

#[derive(Debug, Default, PartialEq)]
struct View {
    /// Processes by entity id, with their arguments.
    processes: BTreeMap<String, Vec<Vec<u8>>>,
    /// Container, protocol, address and number of the ports that events report.
    ports: BTreeSet<(String, String, String, u32)>,
}

impl View {
    fn add(&mut self, processes: Vec<ContainerProcess>, ports: Vec<ContainerPort>) {
        self.processes.extend(processes.into_iter().map(|one| {
            let process = one.process.unwrap_or_default();
            (process.entity_id, process.args)
        }));
        self.ports.extend(ports.into_iter().filter(|one| !one.listed_only).map(|one| {
            let (container, port) =
                (one.container.unwrap_or_default(), one.port.unwrap_or_default());
            (container.id, port.transport, port.address, port.port)
        }));
    }
}

fn view(runtime_dir: &Path) -> View {
    run(async {
        let mut view = View::default();
        let Ok(daemon) = Daemon::connect(&runtime_dir.join("daemon.sock")).await else {
            return view;
        };
        let processes = daemon.node_processes().await.expect("it answers").processes;
        let ports = daemon.node_ports().await.expect("it answers").ports;
        view.add(processes, ports);
        view
    })
}

fn shims_view(runtime_dir: &Path) -> View {
    run(async {
        let mut view = View::default();
        for registration in registrations(runtime_dir, None).expect("a directory") {
            let shim = Shim::connect(registration).await.expect("it serves");
            let processes = shim.processes("").await.expect("it answers").processes;
            let ports = shim.ports("").await.expect("it answers").ports;
            view.add(processes, ports);
        }
        view
    })
}

/// The sequence number of the last event of each shim, by epoch.
fn newest_of_shims(runtime_dir: &Path) -> BTreeMap<String, u64> {
    run(async {
        let mut newest = BTreeMap::new();
        for registration in registrations(runtime_dir, None).expect("a directory") {
            let shim = Shim::connect(registration).await.expect("it serves");
            let answer = shim.processes("").await.expect("it answers");
            newest.insert(answer.epoch, answer.seq);
        }
        newest
    })
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work)
}

/// The content of the stream's files.
#[derive(Default)]
struct Streamed {
    /// The sequence number of the last event of each shim, by epoch.
    last: BTreeMap<String, u64>,
    /// Missing events without a gap, and duplicate events.
    wrong: Vec<String>,
    events: usize,
    gaps: usize,
    /// Gaps without a shim: the daemon did not run.
    absences: usize,
}

fn stream(runtime_dir: &Path) -> Streamed {
    let mut streamed = Streamed::default();
    let mut gaps: BTreeSet<String> = BTreeSet::new();
    for name in ["stream.jsonl.1", "stream.jsonl"] {
        let text = fs::read_to_string(runtime_dir.join("registry").join(name)).unwrap_or_default();
        for line in text.lines() {
            let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
            let epoch = line["epoch"].as_str().unwrap_or_default().to_owned();
            let seq = line["seq"].as_u64().unwrap_or_default();
            let is_gap = line["type"] == "observer.gap";
            streamed.gaps += usize::from(is_gap);
            if is_gap && epoch.is_empty() {
                streamed.absences += 1;
            } else if is_gap {
                gaps.insert(epoch.clone());
            }
            if seq == 0 {
                continue;
            }
            streamed.events += 1;
            let last = streamed.last.insert(epoch.clone(), seq).unwrap_or_default();
            let has_hole = seq > last + 1 && !gaps.remove(&epoch);
            if seq <= last || has_hole {
                streamed.wrong.push(format!("{epoch}: {seq} after {last}"));
            }
        }
    }
    streamed
}
