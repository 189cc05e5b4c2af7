//! The command line: commands, options and their help texts.

#[cfg(feature = "daemon")]
pub(super) mod registry;

use clap::{Args, Parser, Subcommand, ValueEnum, builder::PossibleValuesParser};

#[cfg(feature = "daemon")]
use self::registry::RegistryCommand;
use crate::{cli::exit::Exit, config::Key, model::EVENT_TYPES};

/// Observe the processes and ports of containers, and manage registered processes.
#[derive(Debug, Parser)]
#[command(
    name = "lookout",
    version,
    after_help = Exit::help_line(),
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
    /// Path of the configuration file [default: /etc/lookout/config.toml].
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<std::path::PathBuf>,
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
    /// Show which categories of events can be observed, and what limits them.
    Capabilities(CapabilitiesArgs),
    /// Show detailed information about a container.
    Inspect(InspectArgs),
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
    /// Show only this containerd namespace [default: all].
    #[arg(short, long, value_name = "NS")]
    pub(super) namespace: Option<String>,
    /// Show only this container.
    #[arg(long, value_name = "ID")]
    pub(super) container: Option<String>,
    #[command(flatten)]
    pub(super) display: DisplayOptions,
}

/// Options of all commands that print a table.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct DisplayOptions {
    /// Print only ids or names; no header and no warnings.
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Do not truncate lines to the width of the terminal.
    #[arg(long)]
    pub(super) no_trunc: bool,
}

#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    #[command(flatten)]
    pub(super) common: ContainerOptions,
    /// Follow new events, also of containers that start later.
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Show only this type, such as process.exec or process.*; can be repeated.
    ///
    /// observer.gap events are always shown: they report that other events were lost.
    #[arg(
        long = "type",
        value_name = "TYPE",
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
    /// Show only events after this cursor, EPOCH:SEQ; requires --container.
    #[arg(long, value_name = "CURSOR", requires = "container", value_parser = parse_cursor)]
    pub(super) since: Option<String>,
    /// Stop after this number of events.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) limit: Option<u64>,
    /// Output format.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: EventFormat,
}

#[derive(Debug, Args)]
pub(super) struct PsArgs {
    #[command(flatten)]
    pub(super) common: ContainerOptions,
    /// Output format.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: ListFormat,
}

#[derive(Debug, Args)]
pub(super) struct TreeArgs {
    #[command(flatten)]
    pub(super) common: ContainerOptions,
    /// Output format.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: PageFormat,
}

#[derive(Debug, Args)]
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
    /// Output format.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: ListFormat,
}

#[derive(Debug, Args)]
pub(super) struct ExitsArgs {
    #[command(flatten)]
    pub(super) common: ContainerOptions,
    /// Follow new exits; earlier exits are not shown.
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Output format.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: ListFormat,
}

#[derive(Debug, Args)]
pub(super) struct CapabilitiesArgs {
    #[command(flatten)]
    pub(super) common: ContainerOptions,
    /// Output format.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: PageFormat,
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// The id of the container.
    #[arg(value_name = "ID")]
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
pub(super) enum EventFormat {
    /// A table with one line per event.
    Table,
    /// A table with all columns.
    Wide,
    /// A JSON array.
    Json,
    /// One JSON object per line.
    Jsonl,
    /// One {"pid","command","timestamp"} object per process.start and process.exec event.
    Probe,
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

/// Accepts the name of an event type, or a group of types such as `process.*`.
fn event_type_parser() -> PossibleValuesParser {
    let mut types = Vec::from(EVENT_TYPES.map(str::to_owned));
    for name in EVENT_TYPES {
        let group = name.split_once('.').map(|(group, _)| format!("{group}.*"));
        types.extend(group.filter(|group| !types.contains(group)));
    }
    PossibleValuesParser::new(types)
}

/// Accepts a cursor, `EPOCH:SEQ`. The shim checks the epoch.
fn parse_cursor(text: &str) -> Result<String, String> {
    let is_cursor = text.rsplit_once(':').is_some_and(|(epoch, seq)| {
        // `u64::parse` accepts a leading `+`, which the shim rejects.
        !epoch.is_empty() && !seq.starts_with('+') && seq.parse::<u64>().is_ok()
    });
    if is_cursor {
        Ok(text.to_owned())
    } else {
        Err("a cursor is EPOCH:SEQ, such as 5f3a:17".to_owned())
    }
}
