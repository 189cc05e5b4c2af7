//! The command line: commands, options and their help texts.

mod format;
#[cfg(feature = "daemon")]
pub(super) mod registry;
#[cfg(feature = "report")]
mod report;

use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};

pub(super) use self::format::parse_event_format;
use self::format::parse_format;
pub(super) use self::format::{CustomColumn, FieldPath, Format};

#[cfg(feature = "daemon")]
use self::registry::RegistryCommand;
#[cfg(feature = "report")]
pub(super) use self::report::{ReportArgs, ReportFormat};
use crate::{
    cli::{
        clock::{parse_duration, parse_time},
        description::Label,
        exit::Exit,
    },
    config::Key,
    model::EVENT_TYPES,
};

/// Observe the processes and ports of containers, and manage registered processes.
#[derive(Debug, Parser)]
#[command(
    name = "lookout",
    version,
    after_help = Exit::help_line(),
    max_term_width = 100
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
    /// Path of the configuration file [default: /etc/lookout/config.toml].
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<std::path::PathBuf>,
    #[command(flatten)]
    pub(super) color: colorchoice_clap::Color,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the events of containers.
    Events(EventsArgs),
    /// List the live processes of containers.
    Ps(PsArgs),
    /// Show the live processes of containers as trees.
    Tree(TreeArgs),
    /// List the open ports of containers and the processes that own them.
    Ports(PortsArgs),
    /// Show the exits of processes in containers.
    Exits(ExitsArgs),
    /// List the execs in containers: command, status, and the processes that they have left.
    Execs(ExecsArgs),
    /// Show which categories of events can be observed, and what limits them.
    Capabilities(CapabilitiesArgs),
    /// Show detailed information about a container.
    Inspect(InspectArgs),
    /// Write a report of a container: its processes over time, failures, ports and gaps.
    ///
    /// The container may still run, or have ended: then the daemon's history is asked. The report
    /// is one document on stdout, without links to other files.
    #[cfg(feature = "report")]
    Report(ReportArgs),
    /// Wait until something has happened in a container.
    ///
    /// Returns at once if it is so already. With several conditions, the first of them counts; the
    /// line that is printed says which. Exit status 1: the timeout has passed, or the container has
    /// ended before.
    Wait(WaitArgs),
    /// Check the node: kernel support, pinned eBPF programs, problems.
    #[cfg(target_os = "linux")]
    Doctor(DoctorArgs),
    #[cfg(feature = "daemon")]
    #[command(flatten)]
    Registry(RegistryCommand),
    /// Show the configuration of the host.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script for a shell.
    #[cfg(feature = "completion")]
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print or write the manual pages.
    #[cfg(feature = "man")]
    Man {
        /// Directory to write the pages of all commands to. Without it, the page of `lookout` is
        /// printed to stdout.
        #[arg(value_name = "DIR")]
        directory: Option<std::path::PathBuf>,
    },
}

/// Options of all commands that show containers.
#[derive(Debug, Clone, Args)]
pub(super) struct ContainerOptions {
    /// Show only this container.
    ///
    /// Its id, a unique prefix of it, or a name: POD, POD/CONTAINER or K8S-NAMESPACE/POD/CONTAINER
    /// in Kubernetes, else NAMESPACE/ID with containerd's namespace.
    #[arg(value_name = "CONTAINER")]
    positional: Option<String>,
    /// The same as the argument CONTAINER.
    #[arg(long, value_name = "ID", conflicts_with = "positional", hide_short_help = true)]
    container: Option<String>,
    /// Show only this containerd namespace [default: all].
    #[arg(short, long, value_name = "NS")]
    pub(super) namespace: Option<String>,
    /// Show only the containers of this Kubernetes pod: POD or K8S-NAMESPACE/POD.
    #[arg(long, value_name = "POD")]
    pub(super) pod: Option<String>,
    /// Show only the containers of pods in this Kubernetes namespace.
    #[arg(long, value_name = "NS")]
    pub(super) k8s_namespace: Option<String>,
    /// Show only the containers of this image: its name, also without tag and registry.
    ///
    /// Known in Kubernetes. Other clients do not write the image into the configuration of a
    /// container.
    #[arg(long, value_name = "IMAGE", hide_short_help = true)]
    pub(super) image: Option<String>,
    /// Show only the containers with this annotation; repeated: with all of them.
    ///
    /// Labels of containerd and Docker are not in the configuration of a container, and are not
    /// known; those of Kubernetes only if the pod has them as annotations too.
    #[arg(long = "label", value_name = "KEY[=VALUE]", hide_short_help = true)]
    pub(super) labels: Vec<Label>,
    #[command(flatten)]
    pub(super) display: DisplayOptions,
}

impl ContainerOptions {
    /// The options of a command for one container.
    pub(super) fn of_container(
        container: String,
        namespace: Option<String>,
        display: DisplayOptions,
    ) -> Self {
        Self {
            positional: Some(container),
            container: None,
            namespace,
            pod: None,
            k8s_namespace: None,
            image: None,
            labels: Vec::new(),
            display,
        }
    }

    /// Whether only some containers are wanted.
    #[cfg(feature = "daemon")]
    pub(super) fn selects_some(&self) -> bool {
        let Self {
            positional,
            container,
            namespace,
            pod,
            k8s_namespace,
            image,
            labels,
            display: _,
        } = self;
        [positional, container, namespace, pod, k8s_namespace, image]
            .into_iter()
            .any(Option::is_some)
            || !labels.is_empty()
    }

    /// The id or the name that was given for a container.
    pub(super) fn container(&self) -> Option<&str> {
        self.positional.as_deref().or(self.container.as_deref())
    }
}

/// Options of all commands that print a table.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct DisplayOptions {
    /// Print only ids or names; no header and no warnings.
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Print complete ids, and do not fit lines to the width of the terminal.
    #[arg(long)]
    pub(super) no_trunc: bool,
    /// Print times in UTC [default: local times on a terminal, UTC otherwise].
    #[arg(long)]
    pub(super) utc: bool,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  lookout events                              all starts and exits in the journals of the shims
  lookout events -f web                       what happens in web from now on
  lookout events web --since 5m               and what has happened in the last five minutes
  lookout events --since 14:00 --until 14:05  what ran in five minutes, in all containers
  lookout events --pod shop/web-0 --failures  the exits of a pod with a status other than 0
  lookout events --origin init --type exit --since 1h
                                              which containers have ended, with which status
  lookout events web --type exec,exit --all   each exec and exit
  lookout events --filter 'process.user.id == 0 && origin == \"exec\"' -o jsonl
  lookout events web --tail 20 -o custom-columns=TIME:.time,PID:.process.pid,STATUS:.status")]
pub(super) struct EventsArgs {
    #[command(flatten)]
    pub(super) common: ContainerOptions,
    /// Follow new events, also of containers that start later; earlier events are shown only with
    /// --since or --tail.
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Show all events: also forks, execs of the same executable, and ends of outputs.
    ///
    /// The formats for programs always have all events.
    #[arg(short, long)]
    pub(super) all: bool,
    /// Show only these types, separated by commas: process.exec, process.*, or exec for short.
    ///
    /// A new program is process.start; process.exec is a process that runs another program instead.
    /// observer.gap events are always shown: they report that other events were lost.
    #[arg(
        long = "type",
        value_name = "TYPE",
        value_delimiter = ',',
        value_parser = event_type_parser(),
        hide_possible_values = true,
    )]
    pub(super) types: Vec<String>,
    /// Show only events of this exec and of its descendants.
    #[arg(long, value_name = "ID")]
    pub(super) exec_id: Option<String>,
    /// Show only events of processes with this origin.
    #[arg(long, value_name = "ORIGIN")]
    pub(super) origin: Option<Origin>,
    /// Show only events of this executable, given as a full path or a file name.
    #[arg(long, value_name = "PATH")]
    pub(super) exe: Option<String>,
    /// Show only exits with a non-zero status.
    #[arg(long)]
    pub(super) failures: bool,
    /// Show only events that meet a condition in CEL on the fields of -o json.
    ///
    /// Such as status != 0, process.executable.path.startsWith("/tmp/"), has(port) &&
    /// port.scope == "wildcard". A field that an event lacks makes the condition false.
    #[cfg(feature = "expressions")]
    #[arg(long, value_name = "EXPRESSION")]
    pub(super) filter: Option<String>,
    /// Show only events from this time on: 5m (ago), 14:00, 2026-11-25, 2026-11-25T14:00, today,
    /// yesterday, or after a cursor, EPOCH:SEQ, of one container.
    ///
    /// A time is in the zone of the user, also with --utc; 2026-11-25T14:00:00Z is in UTC.
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    pub(super) since: Option<Since>,
    /// Show only events before this time, given as for --since.
    #[arg(long, value_name = "TIME", value_parser = parse_time, conflicts_with = "follow")]
    pub(super) until: Option<u64>,
    /// Show only the last N events; with -f, before the new ones.
    #[arg(long, value_name = "N")]
    pub(super) tail: Option<usize>,
    /// Stop after this number of events.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) limit: Option<u64>,
    /// Output format: table, wide, json (an array), jsonl (one object per line), yaml, probe (one
    /// {"pid","command","timestamp"} object per start and exec), or
    /// custom-columns=TITLE:.field,TITLE:.field with fields of -o json.
    #[arg(short, long, value_name = "FORMAT", default_value = "table", value_parser = parse_event_format)]
    pub(super) output: Format,
}

/// Options of all commands that print a list of processes or ports.
#[derive(Debug, Args)]
pub(super) struct ListOptions {
    /// Show only rows that meet a condition in CEL on the fields of -o json; see `lookout events
    /// --help`.
    #[cfg(feature = "expressions")]
    #[arg(long, value_name = "EXPRESSION")]
    pub(super) filter: Option<String>,
    /// Sort by a field of -o json, such as .process.pid; -.process.pid sorts downwards.
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    pub(super) sort: Option<String>,
    /// Output format: table, wide, json (an array), jsonl (one object per line), yaml, or
    /// custom-columns=TITLE:.field,TITLE:.field with fields of -o json.
    #[arg(short, long, value_name = "FORMAT", default_value = "table", value_parser = parse_format)]
    pub(super) output: Format,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  lookout ps                       the processes of all containers
  lookout ps web                   those of one container
  lookout ps --pod shop/web-0 -w   those of a pod, again and again
  lookout ps --sort -.process.creation.time -o custom-columns=PID:.process.pid,EXE:.process.executable.path
  lookout ps --filter 'origin == \"injected\"'")]
pub(super) struct PsArgs {
    #[command(flatten)]
    pub(super) common: ContainerOptions,
    /// Print the list again whenever it may have changed.
    #[arg(short, long)]
    pub(super) watch: bool,
    #[command(flatten)]
    pub(super) list: ListOptions,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  lookout tree              the process trees of all containers
  lookout tree web -w       that of one container, again and again
  lookout tree --pod web-0  those of a pod
  lookout tree web --at 14:05  what ran at that time, also if the container has ended")]
pub(super) struct TreeArgs {
    #[command(flatten)]
    pub(super) common: ContainerOptions,
    /// Print the trees again whenever they may have changed.
    #[arg(short, long)]
    pub(super) watch: bool,
    /// Print the trees of this time: 14:05, 2026-11-25T14:05, or 10m for ten minutes ago.
    ///
    /// From the daemon's history and the journals of the shims. The exit status is 5 if events are
    /// missing, so that a process may be missing or listed after its end.
    #[arg(long, value_name = "TIME", value_parser = parse_time, conflicts_with = "watch")]
    pub(super) at: Option<u64>,
    /// Output format.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: PageFormat,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  lookout ports         the open ports of all containers
  lookout ports web -w  those of one container, then each that opens or closes
  lookout ports --filter 'network.local.port == 8080'
  lookout events --type port.open  when each was opened, and by which process
  lookout ports --filter 'port.scope == \"wildcard\"' -o wide")]
pub(super) struct PortsArgs {
    #[command(flatten)]
    pub(super) common: ContainerOptions,
    /// After listing the open ports, follow ports that open and close.
    #[arg(short, long)]
    pub(super) watch: bool,
    /// Ask the daemon instead of the shims.
    ///
    /// The owner of a port is then the process that opened it, which may differ from the processes
    /// that hold it now.
    #[arg(long, conflicts_with = "watch")]
    pub(super) daemon: bool,
    #[command(flatten)]
    pub(super) list: ListOptions,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  lookout exits              the exits in all containers
  lookout exits web -f       those of one container from now on
  lookout exits web -o json  for a program
  lookout events web --type exit --failures  with the commands, and selected")]
pub(super) struct ExitsArgs {
    #[command(flatten)]
    pub(super) common: ContainerOptions,
    /// Follow new exits; earlier exits are not shown.
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Output format: table, wide, json (an array), jsonl (one object per line), yaml, or
    /// custom-columns=TITLE:.field,TITLE:.field with fields of -o json.
    #[arg(short, long, value_name = "FORMAT", default_value = "table", value_parser = parse_format)]
    pub(super) output: Format,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  lookout execs web                        what was executed in a container from outside
  lookout execs --left                     execs of which processes still live after their end
  lookout execs web --all -o wide          each one, with its times and the pids that live
  lookout events web --exec-id probe -a    all that one exec did")]
pub(super) struct ExecsArgs {
    #[command(flatten)]
    pub(super) common: ContainerOptions,
    /// Show only execs that have ended and have left living processes.
    #[arg(long)]
    pub(super) left: bool,
    /// Show each exec; otherwise those with the same command and the same result are one row.
    #[arg(short, long)]
    pub(super) all: bool,
    #[command(flatten)]
    pub(super) list: ListOptions,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  lookout capabilities      the lowest support of all shims, or what this node could do
  lookout capabilities web  that of one container")]
pub(super) struct CapabilitiesArgs {
    #[command(flatten)]
    pub(super) common: ContainerOptions,
    /// Output format.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: PageFormat,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  lookout inspect web              all that is known of a container
  lookout inspect shop/web-0/app   by its names in Kubernetes
  lookout inspect 5f3a -o json     by the beginning of its id")]
pub(super) struct InspectArgs {
    /// The container: its id, a unique prefix of it, or a name, as for `lookout ps`.
    #[arg(value_name = "CONTAINER")]
    pub(super) container: String,
    /// Search only this containerd namespace [default: all].
    #[arg(short, long, value_name = "NS")]
    pub(super) namespace: Option<String>,
    #[command(flatten)]
    pub(super) display: DisplayOptions,
    /// Output format.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: PageFormat,
}

#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("condition").required(true).multiple(true),
    after_long_help = "\
Examples:
  lookout wait web --port 3000 --timeout 30s  until a process listens on the port
  lookout wait web --process nginx            until nginx runs
  lookout wait web --exec probe-1             until an exec has ended, and with which status
  lookout wait shop/web-0/app --idle --exit   until it is idle, or has ended")]
pub(super) struct WaitArgs {
    /// The container: its id, a unique prefix of it, or a name, as for `lookout ps`.
    #[arg(value_name = "CONTAINER")]
    pub(super) container: String,
    /// Search only this containerd namespace [default: all].
    #[arg(short, long, value_name = "NS")]
    pub(super) namespace: Option<String>,
    /// A port is open, TCP or UDP, at any address; can be repeated.
    #[arg(long = "port", value_name = "PORT", group = "condition")]
    pub(super) ports: Vec<u32>,
    /// A process runs an executable, given as a full path or a file name; can be repeated.
    #[arg(long = "process", value_name = "NAME", group = "condition")]
    pub(super) processes: Vec<String>,
    /// The process of an exec has ended, by the exec's id; can be repeated.
    #[arg(long = "exec", value_name = "ID", group = "condition")]
    pub(super) execs: Vec<String>,
    /// The container is idle: no exec request, no connection and no input for `idle_after`.
    #[arg(long, group = "condition")]
    pub(super) idle: bool,
    /// The container's first process has ended.
    #[arg(long, group = "condition")]
    pub(super) exit: bool,
    /// How long to wait: 30s, 5m, or a number of seconds [default: without end].
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(super) timeout: Option<std::time::Duration>,
    #[command(flatten)]
    pub(super) display: DisplayOptions,
}

#[cfg(target_os = "linux")]
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Remove what dead shims left in the pin directory and the maps.
    #[arg(long)]
    pub(super) sweep: bool,
    /// Output format.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: PageFormat,
    #[command(flatten)]
    pub(super) display: DisplayOptions,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Show each key with its value and where the value comes from.
    Show {
        /// Show only these keys.
        #[arg(
            value_name = "KEY",
            value_parser = PossibleValuesParser::new(Key::ALL.map(Key::as_str)),
            hide_possible_values = true,
        )]
        keys: Vec<String>,
        /// Output format.
        #[arg(short, long, value_name = "FORMAT", default_value = "table")]
        output: PageFormat,
        #[command(flatten)]
        display: DisplayOptions,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ListFormat {
    /// A table.
    Table,
    /// A table with all columns.
    Wide,
    /// A JSON array.
    Json,
    /// One JSON object per line.
    Jsonl,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum PageFormat {
    /// Text.
    Table,
    /// A JSON value.
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Origin {
    /// The first process of the container.
    Init,
    /// A process started by an exec request.
    Exec,
    /// A process forked by a process of the container.
    Descendant,
    /// A process that entered the container from outside.
    Injected,
    /// A hook that the runtime ran in the container.
    Hook,
    /// A process of the container of unknown origin.
    Unknown,
}

impl Origin {
    /// The origin as an event has it in `process.origin`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Exec => "exec",
            Self::Descendant => "descendant",
            Self::Injected => "injected",
            Self::Hook => "hook",
            Self::Unknown => "unknown",
        }
    }
}

/// From where on events are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Since {
    /// Nanoseconds since 1970.
    Time(u64),
    /// The cursor of a shim, `EPOCH:SEQ`.
    Cursor(String),
}

/// Accepts the name of an event type, the last part of such a name, or a group of types such as
/// `process.*`, and gives the name or the group.
fn event_type_parser() -> impl TypedValueParser<Value = String> {
    let mut accepted: Vec<(String, &str)> = Vec::new();
    for name in EVENT_TYPES {
        accepted.push((name.to_owned(), name));
        let Some((group, last)) = name.split_once('.') else { continue };
        // Both a process and a container start: the first in the list is that of the process.
        for short in [last.to_owned(), format!("{group}.*")] {
            if !accepted.iter().any(|(known, _)| *known == short) {
                accepted.push((short, name));
            }
        }
    }
    let names: Vec<String> = accepted.iter().map(|(name, _)| name.clone()).collect();
    PossibleValuesParser::new(names).map(move |text| {
        let full = accepted.iter().find(|(name, _)| *name == text && !name.ends_with(".*"));
        full.map_or(text, |(_, full)| (*full).to_owned())
    })
}

/// Accepts a time, or a cursor, `EPOCH:SEQ`. The shim checks the epoch.
fn parse_since(text: &str) -> Result<Since, String> {
    let time = match parse_time(text) {
        Ok(time) => return Ok(Since::Time(time)),
        Err(error) => error,
    };
    let is_cursor = text.rsplit_once(':').is_some_and(|(epoch, seq)| {
        // `u64::parse` accepts a leading `+`, which the shim rejects.
        // `14:60` is a wrong time of day.
        epoch.len() > 2 && !seq.starts_with('+') && seq.parse::<u64>().is_ok()
    });
    if is_cursor {
        Ok(Since::Cursor(text.to_owned()))
    } else {
        Err(format!("{time}, or a cursor EPOCH:SEQ, such as 5f3a:17"))
    }
}
