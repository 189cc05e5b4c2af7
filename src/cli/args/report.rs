//! The arguments of `lookout report`.

use clap::{Args, ValueEnum};

use crate::cli::clock::parse_time;

#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  lookout report web                                what has happened in web, as Markdown
  lookout report web -o html > web.html             a page with a timeline, for a browser
  lookout report web -o perfetto > web.pftrace      for https://ui.perfetto.dev
  lookout report shop/web-0/app --since 1h -o json  the last hour, for a program
  lookout report build >> \"$GITHUB_STEP_SUMMARY\"    in the summary of a job")]
pub(in crate::cli) struct ReportArgs {
    /// The container: its id, a unique prefix of it, or a name, as for `lookout ps`.
    #[arg(value_name = "CONTAINER")]
    pub(in crate::cli) container: String,
    /// Search only this containerd namespace [default: all].
    #[arg(short, long, value_name = "NS")]
    pub(in crate::cli) namespace: Option<String>,
    /// Report only what ran or was open from this time on: 5m (ago), 14:00, 2026-11-25,
    /// 2026-11-25T14:00, yesterday.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(in crate::cli) since: Option<u64>,
    /// Report only what happened before this time.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(in crate::cli) until: Option<u64>,
    /// Print no warnings.
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
    /// Output format.
    #[arg(short, long, value_name = "FORMAT", default_value = "md")]
    pub(in crate::cli) output: ReportFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum ReportFormat {
    /// Markdown, for a pull request or the summary of a job.
    Md,
    /// A page without scripts, for a browser and for paper.
    Html,
    /// A trace in the format of Perfetto.
    Perfetto,
    /// A JSON object with everything.
    Json,
}
