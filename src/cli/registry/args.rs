//! What was typed to the registry.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use crate::{
    api::Selector,
    cli::args::{ListFormat, Look},
    registry::entry::signal_number,
};

#[derive(Debug, Args)]
pub(in crate::cli) struct DaemonArgs {
    /// Replace a daemon that runs: TERM, and KILL after 3 s.
    #[arg(long)]
    pub(in crate::cli) force: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PingArgs {
    /// How long to wait.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    pub(in crate::cli) timeout: Duration,
}

/// Entries that match every kind of option that is given; of one kind one value is enough.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which entries")]
pub(in crate::cli) struct Select {
    /// With this tag. Can be repeated: any of them.
    #[arg(long = "tag", value_name = "TAG")]
    pub(in crate::cli) tags: Vec<String>,
    /// With this tag. Can be repeated: all of them.
    #[arg(long = "tag-all", value_name = "TAG")]
    pub(in crate::cli) all_tags: Vec<String>,
    /// In this group. Can be repeated: any of them.
    #[arg(long = "group", value_name = "GROUP")]
    pub(in crate::cli) groups: Vec<String>,
    /// In this group. Can be repeated: all of them.
    #[arg(long = "group-all", value_name = "GROUP")]
    pub(in crate::cli) all_groups: Vec<String>,
    /// Of this process. Can be repeated.
    #[arg(long = "pid", value_name = "PID")]
    pub(in crate::cli) pids: Vec<i32>,
    /// This entry. Can be repeated.
    #[arg(long = "id", value_name = "ID")]
    pub(in crate::cli) ids: Vec<u64>,
    /// Of this name. Can be repeated.
    #[arg(long = "name", value_name = "NAME")]
    pub(in crate::cli) names: Vec<String>,
    /// Only those whose process lives.
    #[arg(long)]
    pub(in crate::cli) alive: bool,
    /// With this in the command line.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(in crate::cli) search: String,
}

impl Select {
    /// What the daemon is asked; `ids` were named without an option.
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

/// What a new entry gets.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct Words {
    /// A name.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(in crate::cli) name: String,
    /// A tag. Can be repeated.
    #[arg(long = "tag", value_name = "TAG")]
    pub(in crate::cli) tags: Vec<String>,
    /// A group. Can be repeated.
    #[arg(long = "group", value_name = "GROUP")]
    pub(in crate::cli) groups: Vec<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct AddArgs {
    /// The processes.
    #[arg(value_name = "PID", required_unless_present = "pattern", value_parser = clap::value_parser!(i32).range(1..))]
    pub(in crate::cli) pids: Vec<i32>,
    /// All processes that `lookout find` finds with this pattern.
    #[arg(long = "match", value_name = "PATTERN", conflicts_with = "pids", value_parser = pattern)]
    pub(in crate::cli) pattern: Option<regex::bytes::Regex>,
    #[command(flatten)]
    pub(in crate::cli) words: Words,
    /// How to print.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(in crate::cli) output: ListFormat,
    #[command(flatten)]
    pub(in crate::cli) look: Look,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    #[command(flatten)]
    pub(in crate::cli) select: Select,
    /// How to print.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(in crate::cli) output: ListFormat,
    #[command(flatten)]
    pub(in crate::cli) look: Look,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TagArgs {
    /// The entry.
    pub(in crate::cli) id: u64,
    /// What it gets, or loses.
    #[arg(required = true, value_name = "WORD")]
    pub(in crate::cli) words: Vec<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RenameArgs {
    /// The entry.
    pub(in crate::cli) id: u64,
    /// Its new name; empty takes the name away.
    pub(in crate::cli) name: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RmArgs {
    /// Entries.
    #[arg(id = "entries", value_name = "ID")]
    pub(in crate::cli) ids: Vec<u64>,
    #[command(flatten)]
    pub(in crate::cli) select: Select,
    /// All that match.
    #[arg(long)]
    pub(in crate::cli) all: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct KillArgs {
    /// Entries.
    #[arg(id = "entries", value_name = "ID")]
    pub(in crate::cli) ids: Vec<u64>,
    #[command(flatten)]
    pub(in crate::cli) select: Select,
    /// A name or a number.
    #[arg(short, long, value_name = "SIGNAL", default_value = "TERM", value_parser = signal)]
    pub(in crate::cli) signal: i32,
    /// Also what descends from them.
    #[arg(long)]
    pub(in crate::cli) tree: bool,
    /// All that match.
    #[arg(long)]
    pub(in crate::cli) all: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RunArgs {
    #[command(flatten)]
    pub(in crate::cli) words: Words,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(in crate::cli) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct FindArgs {
    /// A regular expression, searched in the executable's path, the task's name and the command
    /// line.
    #[arg(value_parser = pattern)]
    pub(in crate::cli) pattern: regex::bytes::Regex,
    /// How to print.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(in crate::cli) output: ListFormat,
    #[command(flatten)]
    pub(in crate::cli) look: Look,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct StatsArgs {
    #[command(flatten)]
    pub(in crate::cli) select: Select,
    /// Also processes of the node's containers.
    #[arg(long)]
    pub(in crate::cli) containers: bool,
    /// Also what descends from them.
    #[arg(long)]
    pub(in crate::cli) tree: bool,
    /// How to print.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(in crate::cli) output: ListFormat,
    #[command(flatten)]
    pub(in crate::cli) look: Look,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TopArgs {
    #[command(flatten)]
    pub(in crate::cli) select: Select,
    /// Also processes of the node's containers.
    #[arg(long)]
    pub(in crate::cli) containers: bool,
    /// Also what descends from them.
    #[arg(long)]
    pub(in crate::cli) tree: bool,
    /// Between two looks.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    pub(in crate::cli) interval: Duration,
    /// End after so many looks.
    #[arg(long, value_name = "N")]
    pub(in crate::cli) count: Option<u64>,
    /// What comes first.
    #[arg(long, default_value = "cpu")]
    pub(in crate::cli) sort: Sort,
    #[command(flatten)]
    pub(in crate::cli) look: Look,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Sort {
    /// Time of processors.
    Cpu,
    /// Resident memory.
    Memory,
    /// Ids, then pids.
    Id,
}

#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum SnapshotCommand {
    /// Write all entries as JSON.
    Save {
        /// Where; `-` is stdout.
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Add the entries of a file that `save` wrote, under new ids.
    Load {
        /// Where they are; `-` is stdin.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ResetArgs {
    /// RESET: every entry is removed.
    #[arg(long, value_name = "RESET")]
    pub(in crate::cli) confirm: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ManArgs {
    /// A folder for one page a command; without it the page of `lookout` goes to stdout.
    #[arg(value_name = "FOLDER")]
    pub(in crate::cli) folder: Option<PathBuf>,
}

fn duration(text: &str) -> Result<Duration, String> {
    crate::config::duration(text)
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "a duration is a number with ms, s, m or h, such as 2s".to_owned())
}

fn signal(text: &str) -> Result<i32, String> {
    signal_number(text)
        .ok_or_else(|| "a signal is a name or a number, such as TERM or 15".to_owned())
}

fn pattern(text: &str) -> Result<regex::bytes::Regex, String> {
    regex::bytes::RegexBuilder::new(text)
        .unicode(false)
        .size_limit(256 << 10)
        .build()
        .map_err(|error| error.to_string())
}
