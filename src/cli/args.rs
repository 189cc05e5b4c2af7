//! What was typed.

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::registry::args::{
    AddArgs, DaemonArgs, FindArgs, KillArgs, ListArgs, ManArgs, PingArgs, RenameArgs, ResetArgs,
    RmArgs, RunArgs, SnapshotCommand, StatsArgs, TagArgs, TopArgs,
};
use crate::model::EVENT_TYPES;

/// See every process of the containers that lookout runs.
#[derive(Debug, Parser)]
#[command(
    name = "lookout",
    version,
    after_help = "Exit status: 0 ok, 1 failed, 2 usage, 3 not found, 4 shim or daemon unreachable, 5 data incomplete.",
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
    /// Another configuration than /etc/lookout/config.toml.
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<std::path::PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show what happened in containers, or follow it.
    Events(EventsArgs),
    /// List the processes that live.
    Ps(PsArgs),
    /// Show the processes that live as trees.
    Tree(TreeArgs),
    /// List the ports that are open, and who listens; or follow them.
    Ports(PortsArgs),
    /// Show how processes ended, as go-runc tells it, or follow it.
    Exits(ExitsArgs),
    /// Show what can be observed, by what, and why not more.
    Capabilities(CapabilitiesArgs),
    /// Show all that is known of a container.
    Inspect(InspectArgs),
    /// Show what is pinned, what the kernel offers, and what is wrong.
    #[cfg(target_os = "linux")]
    Doctor(DoctorArgs),
    /// Keep the registry, until TERM. Where one runs already, print its pid.
    Daemon(DaemonArgs),
    /// Ask whether the daemon answers.
    Ping(PingArgs),
    /// Register processes.
    Add(AddArgs),
    /// List what is registered.
    List(ListArgs),
    /// Give an entry tags.
    Tag(TagArgs),
    /// Take tags from an entry.
    Untag(TagArgs),
    /// Put an entry into groups.
    Group(TagArgs),
    /// Take an entry out of groups.
    Ungroup(TagArgs),
    /// Give an entry another name.
    Rename(RenameArgs),
    /// Send a signal to what is registered; never to whoever has a pid by now.
    Kill(KillArgs),
    /// Forget entries; their processes go on.
    Rm(RmArgs),
    /// Register a command before its first instruction, and become it.
    Run(RunArgs),
    /// Find processes by what they run.
    Find(FindArgs),
    /// Show what registered processes use.
    Stats(StatsArgs),
    /// Show what registered processes use, again and again.
    Top(TopArgs),
    /// Write the registry to a file, or add a file's entries to it.
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Forget every entry.
    Reset(ResetArgs),
    /// The host's configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the completions of a shell.
    Completion {
        /// Whose.
        shell: Shell,
    },
    /// Print the manual's page, or write the pages of all commands.
    Man(ManArgs),
}

/// Which containers, and how much of the line.
#[derive(Debug, Clone, Args)]
pub(super) struct Common {
    /// Only of this namespace of containerd; all of them where it is not given.
    #[arg(short, long, value_name = "NS")]
    pub(super) namespace: Option<String>,
    /// Only of this container.
    #[arg(long, value_name = "ID")]
    pub(super) container: Option<String>,
    #[command(flatten)]
    pub(super) look: Look,
}

#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Look {
    /// Print names only, no header and no notes.
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Do not cut lines at the terminal's width.
    #[arg(long)]
    pub(super) no_trunc: bool,
}

#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// Go on with what happens, also in containers that come later, until TERM or INT.
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Only this type, such as process.exec or process.*; gaps come all the same. Can be repeated.
    #[arg(long = "type", value_name = "T", value_parser = event_type)]
    pub(super) types: Vec<String>,
    /// Only of this exec and of what descends from it.
    #[arg(long, value_name = "ID")]
    pub(super) exec_id: Option<String>,
    /// Only of processes that came to be in this way.
    #[arg(long, value_name = "O")]
    pub(super) origin: Option<Origin>,
    /// Only of this executable: its whole path, or its last part.
    #[arg(long, value_name = "PATH")]
    pub(super) exe: Option<String>,
    /// Only exits with a status other than 0.
    #[arg(long)]
    pub(super) failures: bool,
    /// Only what came after this cursor, EPOCH:SEQ.
    #[arg(long, value_name = "CURSOR", requires = "container", value_parser = cursor)]
    pub(super) since: Option<String>,
    /// End after so many events.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) limit: Option<u64>,
    /// How to print.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: EventFormat,
}

#[derive(Debug, Args)]
pub(super) struct PsArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// How to print.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: ListFormat,
}

#[derive(Debug, Args)]
pub(super) struct TreeArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// How to print.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: PageFormat,
}

#[derive(Debug, Args)]
pub(super) struct PortsArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// Go on with what opens and closes, also in containers that come later, until TERM or INT.
    #[arg(short, long)]
    pub(super) watch: bool,
    /// Ask the node's daemon, which knows without asking the shims; an owner is then who opened a
    /// port.
    #[arg(long, conflicts_with = "watch")]
    pub(super) daemon: bool,
    /// How to print.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: ListFormat,
}

#[derive(Debug, Args)]
pub(super) struct ExitsArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// Print exits as they happen, until TERM or INT; those of before are not shown.
    #[arg(short, long)]
    pub(super) follow: bool,
    /// How to print.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: ListFormat,
}

#[derive(Debug, Args)]
pub(super) struct CapabilitiesArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// How to print.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: PageFormat,
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// The container.
    #[arg(value_name = "ID")]
    pub(super) container: String,
    /// Only in this namespace of containerd.
    #[arg(short, long, value_name = "NS")]
    pub(super) namespace: Option<String>,
    #[command(flatten)]
    pub(super) look: Look,
    /// How to print.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: PageFormat,
}

#[cfg(target_os = "linux")]
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Remove what dead shims left behind.
    #[arg(long)]
    pub(super) sweep: bool,
    /// How to print.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: PageFormat,
    #[command(flatten)]
    pub(super) look: Look,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Show each key with its value and who set it.
    Show {
        /// How to print.
        #[arg(short, long, value_name = "FORMAT", default_value = "table")]
        output: PageFormat,
        #[command(flatten)]
        look: Look,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum EventFormat {
    /// For reading: one line an event.
    Table,
    /// The same with all columns.
    Wide,
    /// One array.
    Json,
    /// One object a line.
    Jsonl,
    /// What began to run, as {"pid","command","timestamp"}, one object a line.
    Probe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ListFormat {
    /// For reading.
    Table,
    /// The same with all columns.
    Wide,
    /// One array.
    Json,
    /// One object a line.
    Jsonl,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum PageFormat {
    /// For reading.
    Table,
    /// One JSON value.
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Origin {
    /// The container's first process.
    Init,
    /// Asked for by an Exec request.
    Exec,
    /// A child of a process of the container.
    Descendant,
    /// Came from outside.
    Injected,
}

impl Origin {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Exec => "exec",
            Self::Descendant => "descendant",
            Self::Injected => "injected",
        }
    }
}

/// A type that exists, or a kind of types.
fn event_type(text: &str) -> Result<String, String> {
    let is_known = match text.strip_suffix('*') {
        Some(kind) => {
            kind.ends_with('.') && EVENT_TYPES.iter().any(|known| known.starts_with(kind))
        }
        None => EVENT_TYPES.contains(&text),
    };
    if is_known {
        Ok(text.to_owned())
    } else {
        Err(format!("there are {}", EVENT_TYPES.join(", ")))
    }
}

fn cursor(text: &str) -> Result<String, String> {
    let is_cursor = text.rsplit_once(':').is_some_and(|(epoch, seq)| {
        !epoch.is_empty() && !seq.starts_with('+') && seq.parse::<u64>().is_ok()
    });
    if is_cursor {
        Ok(text.to_owned())
    } else {
        Err("a cursor is EPOCH:SEQ, such as 5f3a:17".to_owned())
    }
}
