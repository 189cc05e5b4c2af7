//! The registry commands, their options, and their help texts.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};

use super::{ContainerOptions, DisplayOptions, ListFormat};
use crate::{api::Selector, registry::entry::signal_number};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum RegistryCommand {
    /// Run the daemon that keeps the process registry.
    ///
    /// The daemon runs in the foreground until it receives SIGTERM. If a daemon is already running,
    /// prints its pid and exits.
    Daemon(DaemonArgs),
    /// Check that the daemon answers.
    Ping(PingArgs),
    /// Register processes.
    Add(AddArgs),
    /// List registered processes.
    List(ListArgs),
    /// Add tags to an entry.
    Tag(TagArgs),
    /// Remove tags from an entry.
    Untag(TagArgs),
    /// Add an entry to groups.
    Group(GroupArgs),
    /// Remove an entry from groups.
    Ungroup(GroupArgs),
    /// Rename an entry.
    Rename(RenameArgs),
    /// Send a signal to registered processes, or to an exec of a container.
    ///
    /// The signal never reaches an unrelated process that has reused a pid.
    Kill(KillArgs),
    /// Remove entries from the registry; the processes keep running.
    Rm(RmArgs),
    /// Register a new process and run a command in it.
    ///
    /// The process is registered before the command starts. Pid, terminal, signals and exit status
    /// are those of the command.
    Run(RunArgs),
    /// Find processes of the node by executable or command line.
    Find(FindArgs),
    /// Show the resource usage of registered processes.
    Stats(StatsArgs),
    /// Show what the processes of containers, and registered processes, use and do.
    ///
    /// On a terminal: trees of processes with their CPU and memory usage, I/O, ports and latest
    /// exits, on the whole screen; `?` shows the keys. Otherwise the usage is printed repeatedly,
    /// as the daemon knows it.
    Top(TopArgs),
    /// Save the registry to a file, or load entries from a file.
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Remove all entries from the registry.
    Reset(ResetArgs),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DaemonArgs {
    /// Replace a running daemon: send SIGTERM, and SIGKILL after 3 seconds.
    #[arg(long)]
    pub(in crate::cli) force: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PingArgs {
    /// How long to wait for the answer.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration)]
    pub(in crate::cli) timeout: Duration,
}

/// Options that select entries. An entry is selected if it matches every option that is given. If
/// an option is repeated, the entry must match one of its values, except for `--tag-all` and
/// `--group-all`, of which it must match all values.
//
// A struct that flattens `SelectOptions` does so in its last field: clap applies the help heading
// "Selection" to every option that follows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Selection")]
pub(in crate::cli) struct SelectOptions {
    /// Select entries with this tag; repeat to accept any of several tags.
    #[arg(long = "tag", value_name = "TAG")]
    pub(in crate::cli) tags: Vec<String>,
    /// Select entries with this tag; repeat to require all of several tags.
    #[arg(long = "tag-all", value_name = "TAG")]
    pub(in crate::cli) all_tags: Vec<String>,
    /// Select entries in this group; repeat to accept any of several groups.
    #[arg(long = "group", value_name = "GROUP")]
    pub(in crate::cli) groups: Vec<String>,
    /// Select entries in this group; repeat to require all of several groups.
    #[arg(long = "group-all", value_name = "GROUP")]
    pub(in crate::cli) all_groups: Vec<String>,
    /// Select entries of this process; can be repeated.
    #[arg(long = "pid", value_name = "PID")]
    pub(in crate::cli) pids: Vec<i32>,
    /// Select this entry; can be repeated.
    #[arg(long = "id", value_name = "ID")]
    pub(in crate::cli) ids: Vec<u64>,
    /// Select entries with this name; can be repeated.
    #[arg(long = "name", value_name = "NAME")]
    pub(in crate::cli) names: Vec<String>,
    /// Select only entries of live processes.
    #[arg(long)]
    pub(in crate::cli) alive: bool,
    /// Select entries with this text in the command line.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(in crate::cli) search: String,
}

impl SelectOptions {
    /// The selector for a request to the daemon. `ids` are the positional arguments of the command.
    pub(in crate::cli) fn selector(self, ids: Vec<u64>) -> Selector {
        let Self { tags, all_tags, groups, all_groups, pids, ids: more, names, alive, search } =
            self;
        let ids = ids.into_iter().chain(more).collect();
        Selector {
            ids,
            pids,
            names,
            tags,
            all_tags,
            groups,
            all_groups,
            alive,
            search,
            ..Default::default()
        }
    }
}

/// The name, tags and groups of a new entry.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct EntryLabels {
    /// Name of the new entry.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(in crate::cli) name: String,
    /// Tag of the new entry; can be repeated.
    #[arg(long = "tag", value_name = "TAG")]
    pub(in crate::cli) tags: Vec<String>,
    /// Group of the new entry; can be repeated.
    #[arg(long = "group", value_name = "GROUP")]
    pub(in crate::cli) groups: Vec<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct AddArgs {
    /// Processes to register.
    #[arg(
        value_name = "PID",
        required_unless_present = "pattern",
        value_parser = clap::value_parser!(i32).range(1..),
    )]
    pub(in crate::cli) pids: Vec<i32>,
    /// Register all processes that `lookout find PATTERN` lists.
    #[arg(
        long = "match",
        value_name = "PATTERN",
        conflicts_with = "pids",
        value_parser = parse_pattern,
    )]
    pub(in crate::cli) pattern: Option<regex::bytes::Regex>,
    #[command(flatten)]
    pub(in crate::cli) labels: EntryLabels,
    /// Output format.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(in crate::cli) output: ListFormat,
    #[command(flatten)]
    pub(in crate::cli) display: DisplayOptions,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    /// Output format.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(in crate::cli) output: ListFormat,
    #[command(flatten)]
    pub(in crate::cli) display: DisplayOptions,
    #[command(flatten)]
    pub(in crate::cli) select: SelectOptions,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TagArgs {
    /// The id of the entry.
    pub(in crate::cli) id: u64,
    /// The tags.
    #[arg(required = true, value_name = "TAG")]
    pub(in crate::cli) tags: Vec<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct GroupArgs {
    /// The id of the entry.
    pub(in crate::cli) id: u64,
    /// The groups.
    #[arg(required = true, value_name = "GROUP")]
    pub(in crate::cli) groups: Vec<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RenameArgs {
    /// The id of the entry.
    pub(in crate::cli) id: u64,
    /// The new name; "" removes the name.
    pub(in crate::cli) name: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RmArgs {
    /// Ids of the entries to remove.
    #[arg(id = "entries", value_name = "ID")]
    pub(in crate::cli) ids: Vec<u64>,
    /// Remove all matching entries, even if there are several.
    #[arg(long)]
    pub(in crate::cli) all: bool,
    #[command(flatten)]
    pub(in crate::cli) select: SelectOptions,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct KillArgs {
    /// Ids of the entries to signal.
    #[arg(id = "entries", value_name = "ID")]
    pub(in crate::cli) ids: Vec<u64>,
    /// The signal to send, by name or number.
    #[arg(short, long, value_name = "SIGNAL", default_value = "TERM", value_parser = parse_signal)]
    pub(in crate::cli) signal: i32,
    /// Also signal the descendants that are below the processes now.
    ///
    /// A descendant in a container that has been given another parent, because the process between
    /// has ended, is named on stderr and left.
    #[arg(long)]
    pub(in crate::cli) tree: bool,
    /// Also signal all descendants, in containers also those that have been given another parent.
    #[arg(long)]
    pub(in crate::cli) all_descendants: bool,
    /// Signal the processes of this exec and their descendants, instead of entries.
    #[arg(
        long,
        value_name = "ID",
        requires = "container",
        conflicts_with_all = [
            "entries", "all", "tags", "all_tags", "groups", "all_groups", "pids", "ids", "names",
            "alive", "search",
        ],
    )]
    pub(in crate::cli) exec_id: Option<String>,
    /// The container of the exec.
    #[arg(long, value_name = "ID", requires = "exec_id")]
    pub(in crate::cli) container: Option<String>,
    /// The containerd namespace of the container [default: any].
    #[arg(short, long, value_name = "NS", requires = "exec_id")]
    pub(in crate::cli) namespace: Option<String>,
    /// Signal all matching entries, even if there are several.
    #[arg(long)]
    pub(in crate::cli) all: bool,
    #[command(flatten)]
    pub(in crate::cli) select: SelectOptions,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RunArgs {
    #[command(flatten)]
    pub(in crate::cli) labels: EntryLabels,
    /// The command to run, and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(in crate::cli) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct FindArgs {
    /// Regular expression to match against the executable path, the command name and the command
    /// line.
    #[arg(value_parser = parse_pattern)]
    pub(in crate::cli) pattern: regex::bytes::Regex,
    /// Output format.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(in crate::cli) output: ListFormat,
    #[command(flatten)]
    pub(in crate::cli) display: DisplayOptions,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct StatsArgs {
    /// Also show the processes of the node's containers.
    #[arg(long)]
    pub(in crate::cli) containers: bool,
    /// Also show all descendants of the processes.
    #[arg(long)]
    pub(in crate::cli) tree: bool,
    /// Output format.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(in crate::cli) output: ListFormat,
    #[command(flatten)]
    pub(in crate::cli) display: DisplayOptions,
    #[command(flatten)]
    pub(in crate::cli) select: SelectOptions,
}

#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  lookout top                      all containers, and all registered processes
  lookout top web                  one container
  lookout top --pod shop/web-0     the containers of a pod
  lookout top --sort io            what reads and writes most first
  lookout top --tag job            registered processes with a tag, and their descendants
  lookout top --count 1 | head     the usage once, from the daemon")]
pub(in crate::cli) struct TopArgs {
    #[command(flatten)]
    pub(in crate::cli) common: ContainerOptions,
    /// Also show the processes of the node's containers. On a terminal that is the default, unless
    /// registered processes are selected.
    #[arg(long)]
    pub(in crate::cli) containers: bool,
    /// Also show all descendants of the registered processes. On a terminal they are always shown.
    #[arg(long)]
    pub(in crate::cli) tree: bool,
    /// Time between two updates.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration)]
    pub(in crate::cli) interval: Duration,
    /// Exit after this number of updates.
    #[arg(long, value_name = "N")]
    pub(in crate::cli) count: Option<u64>,
    /// Sort order.
    #[arg(long, default_value = "cpu")]
    pub(in crate::cli) sort: SortOrder,
    #[command(flatten)]
    pub(in crate::cli) select: SelectOptions,
}

impl TopArgs {
    /// Whether containers are selected.
    pub(in crate::cli) fn selects_containers(&self) -> bool {
        self.common.selects_some()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum SortOrder {
    /// CPU usage, highest first.
    Cpu,
    /// Resident memory, largest first.
    #[value(alias = "rss")]
    Memory,
    /// Bytes read from storage and written to it, most first.
    Io,
    /// Pid.
    Pid,
    /// Latest start first.
    Age,
    /// Name of the entry, else the command.
    Name,
    /// Entry id, then pid.
    Id,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum SnapshotCommand {
    /// Save all entries as JSON.
    Save {
        /// The file to write; `-` for stdout.
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Load the entries of a saved file; they get new ids.
    Load {
        /// The file to read; `-` for stdin.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ResetArgs {
    /// Must be RESET: confirms that all entries are to be removed.
    #[arg(long, value_name = "RESET")]
    pub(in crate::cli) confirm: String,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    crate::config::parse_duration(text)
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "expected a number with the unit ms, s, m or h, such as 2s".to_owned())
}

fn parse_signal(text: &str) -> Result<i32, String> {
    signal_number(text)
        .ok_or_else(|| "expected the name or the number of a signal, such as TERM or 15".to_owned())
}

fn parse_pattern(text: &str) -> Result<regex::bytes::Regex, String> {
    regex::bytes::RegexBuilder::new(text)
        // The arguments and paths to which the pattern is applied need not be UTF-8.
        .unicode(false)
        .size_limit(256 << 10)
        .build()
        .map_err(|error| error.to_string())
}
