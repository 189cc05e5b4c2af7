//! `lookout daemon` beside real shims.

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
    api::{
        AddRequest, ContainerPort, ContainerProcess, NodePortsRequest, NodeProcessesRequest,
        StatusResponse,
    },
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

/// How long the daemon is killed once a second.
const STORM: Duration = Duration::from_secs(60);
/// Shims that come and go meanwhile.
const SHIMS: usize = 50;
/// How many of them live at a time.
const AT_ONCE: usize = 5;
/// How long the view may take to be the shims' again.
const SETTLED: Duration = Duration::from_secs(30);

/// Check that a daemon that is killed and started again each second for a minute, while 50 shims
/// come and go under load, has in the end the shims' own view of processes and ports; and that its
/// stream has each event of each shim once, in order, or a gap that says so.
#[test]
fn a_daemon_that_is_killed_each_second_ends_with_the_shims_view() {
    let mut containerd = Containerd::start(Version::V1_7);
    containerd.use_own_bpffs();
    let runtime_dir = containerd.path("lookout");
    // The first shim would make it.
    fs::create_dir_all(&runtime_dir).expect("our folder is writable");
    let is_over = AtomicBool::new(false);
    let began = Instant::now();
    let (kills, names) = thread::scope(|scope| {
        let killer = scope.spawn(|| kill_each_second(&runtime_dir, &is_over));
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
            // Spread over the whole time.
            let turn = STORM * u32::try_from(number + 1).expect("few")
                / u32::try_from(SHIMS).expect("few");
            thread::sleep(turn.saturating_sub(began.elapsed()));
        }
        is_over.store(true, Ordering::Relaxed);
        (killer.join().expect("it kills"), names)
    });
    assert!(kills >= 30, "killed {kills} times only");
    let mut daemon = start(&runtime_dir);
    // At rest a list of the shims and the daemon's are of the same moment.
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
    let streamed = stream(&runtime_dir);
    assert_eq!(streamed.wrong, Vec::<String>::new());
    assert!(streamed.last.len() > SHIMS / 2, "only {} shims were followed", streamed.last.len());
    // Each one that served tells that nobody was there before; one may have been killed before
    // that.
    let log = fs::read_to_string(runtime_dir.join("daemon.log")).expect("a log");
    let served = log.lines().filter(|line| line.contains("msg=\"serving\"")).count();
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

/// Check that a Prometheus scrapes the daemon: it finds its target up, and the numbers that the
/// daemon has.
#[test]
fn prometheus_takes_the_metrics() {
    let folder =
        tempfile::Builder::new().prefix("lk").tempdir_in("/tmp").expect("/tmp is writable");
    let free = || {
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
    };
    let (target, prometheus) = (free().to_string(), free().to_string());
    let mut daemon = command(folder.path());
    let mut daemon =
        daemon.env("LOOKOUT_METRICS_ADDRESS", &target).spawn().expect("setpriv of util-linux");
    deadline::until("the daemon to serve", || TcpStream::connect(&target).is_ok());
    let added = run(async {
        let daemon = Daemon::connect(&folder.path().join("daemon.sock")).await?;
        let pid = i32::try_from(std::process::id()).expect("a pid");
        daemon.add(&AddRequest { pid, ..Default::default() }).await
    });
    added.expect("we live");
    let config = folder.path().join("prometheus.yml");
    let scrape = format!(
        "scrape_configs:\n- job_name: lookout\n  scrape_interval: 1s\n  static_configs:\n  - targets: ['{target}']\n"
    );
    fs::write(&config, scrape).expect("our folder is writable");
    let mut scraper = Command::new("setpriv");
    scraper.args(["--pdeathsig", "KILL"]).arg(tool("prometheus-2/bin/prometheus"));
    scraper.arg(format!("--config.file={}", config.display()));
    scraper.arg(format!("--storage.tsdb.path={}", folder.path().join("tsdb").display()));
    scraper.arg(format!("--web.listen-address={prometheus}"));
    let log =
        fs::File::create(folder.path().join("prometheus.log")).expect("our folder is writable");
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

/// Check that an exit that containerd is not there to take is told as unpublished, by the shim and
/// by the daemon, and grows old; and that nothing is unpublished when containerd is back.
#[test]
fn what_containerd_has_not_got_is_told() {
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
    let told = status(&runtime_dir);
    assert_eq!((told.unpublished_events, told.unpublished_bytes > 0), (1, true), "{told:?}");

    containerd.restart();
    deadline::until("nothing to be unpublished again", nothing);
    daemon.kill().expect("our own child");
    daemon.wait().expect("our own child");
    containerd.remove("c");
    containerd.remove_own_bpffs();
    containerd.assert_nothing_left();
}

/// What the only shim says.
fn status(runtime_dir: &Path) -> StatusResponse {
    run(async {
        let registration = registrations(runtime_dir, None).expect("a folder").remove(0);
        Shim::connect(registration).await.expect("it serves").status().await.expect("it answers")
    })
}

/// Shims that answered the daemon's scrape, their unpublished events, and how many seconds ago the
/// oldest was.
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

/// What a Prometheus has for a query that one series answers.
fn answer(prometheus: &str, query: &str) -> Option<String> {
    let mut connection = TcpStream::connect(prometheus).ok()?;
    write!(connection, "GET /api/v1/query?query={query} HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    connection.read_to_string(&mut text).ok()?;
    let (_, body) = text.split_once("\r\n\r\n")?;
    let answer: Value = serde_json::from_str(body).ok()?;
    answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
}

/// Kills and starts the daemon once a second until it is over; how often it was killed.
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

fn start(runtime_dir: &Path) -> Child {
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
    /// By entity id, with their arguments.
    processes: BTreeMap<String, Vec<Vec<u8>>>,
    /// Container, protocol, address and number of those that events tell of.
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
        let processes = daemon
            .node_processes(&NodeProcessesRequest::default())
            .await
            .expect("it answers")
            .processes;
        let ports =
            daemon.node_ports(&NodePortsRequest::default()).await.expect("it answers").ports;
        view.add(processes, ports);
        view
    })
}

fn shims_view(runtime_dir: &Path) -> View {
    run(async {
        let mut view = View::default();
        for registration in registrations(runtime_dir, None).expect("a folder") {
            let shim = Shim::connect(registration).await.expect("it serves");
            let processes = shim.processes("").await.expect("it answers").processes;
            let ports = shim.ports("").await.expect("it answers").ports;
            view.add(processes, ports);
        }
        view
    })
}

/// The last event of each living shim.
fn newest_of_shims(runtime_dir: &Path) -> BTreeMap<String, u64> {
    run(async {
        let mut newest = BTreeMap::new();
        for registration in registrations(runtime_dir, None).expect("a folder") {
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

/// What the stream's files say.
#[derive(Default)]
struct Streamed {
    /// The last event of each shim.
    last: BTreeMap<String, u64>,
    /// Holes without a gap, and events that are there twice.
    wrong: Vec<String>,
    events: usize,
    gaps: usize,
    /// Gaps of no shim: the daemon was not there.
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
