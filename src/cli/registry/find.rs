//! `lookout find`: searches the processes of the node. Reads `/proc` and asks neither a shim nor
//! the daemon.

use std::{io, path::Path};

use regex::bytes::Regex;
use serde::Serialize;

use crate::cli::args::registry::FindArgs;
use crate::{
    cli::{
        args::ListFormat,
        exit::{Exit, Failure},
        output::{Output, Style},
        render::table::{align_columns, or_dash},
    },
    client::json,
    model::{Args, lossless, printable},
    observe::redact::Redactor,
    platform::process::{identify, image, pids},
};

/// A process that matches the pattern of `lookout find`.
#[derive(Debug)]
pub(super) struct FoundProcess {
    pub(super) pid: i32,
    uid: Option<u32>,
    executable: Vec<u8>,
    args: Option<Args>,
}

#[derive(Serialize)]
struct JsonRow {
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    executable: String,
    command_args: Vec<String>,
}

/// `lookout find`: prints the processes of the node that match a pattern.
pub(in crate::cli) fn find(
    args: &FindArgs,
    named: Option<&Path>,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let config = crate::cli::load_host_config(named)?;
    let settings = config.settings();
    let redactor = Redactor::new(settings.redact_mode, &settings.redact);
    let redactor = redactor.map_err(|error| Failure::Other(error.into()))?;
    let mut found = find_matching(&args.pattern)?;
    // The pattern was matched against the original arguments. Only what is printed is redacted.
    for one in &mut found {
        one.args = one.args.take().map(|args| redactor.redact(args));
    }
    let style = Style::for_stdout(args.display);
    out.write(&format_found(&found, args.output, style))?;
    Ok(if found.is_empty() { Exit::NotFound } else { Exit::Ok })
}

/// All processes of the node that match `pattern`, in the order of their pids. Without this
/// process, which would match because the pattern is among its arguments.
pub(super) fn find_matching(pattern: &Regex) -> Result<Vec<FoundProcess>, Failure> {
    let context =
        |error: io::Error| anyhow::Error::new(error).context("failed to list the node's processes");
    let mut pids = pids().map_err(|error| Failure::Other(context(error)))?;
    pids.sort_unstable();
    pids.retain(|pid| u32::try_from(*pid).is_ok_and(|pid| pid != std::process::id()));
    Ok(pids.into_iter().filter_map(|pid| match_process(pid, pattern)).collect())
}

/// The process `pid`; `None` if it does not match `pattern` or has exited.
fn match_process(pid: i32, pattern: &Regex) -> Option<FoundProcess> {
    let (image, _) = image(pid, identify(pid)?);
    let executable = image.executable.unwrap_or_default().to_vec();
    let line = image.args.iter().flat_map(Args::iter).collect::<Vec<_>>().join(&b' ');
    let comm = image.comm.unwrap_or_default();
    let is_match = [&executable[..], &comm, &line].into_iter().any(|text| pattern.is_match(text));
    is_match.then_some(FoundProcess { pid, uid: image.uid, executable, args: image.args })
}

fn format_found(found: &[FoundProcess], format: ListFormat, style: Style) -> String {
    let row = |one: &FoundProcess| JsonRow {
        pid: one.pid,
        uid: one.uid,
        executable: lossless(&one.executable).into_owned(),
        command_args: one
            .args
            .iter()
            .flat_map(Args::iter)
            .map(|arg| lossless(arg).into_owned())
            .collect(),
    };
    match format {
        ListFormat::Json => json::to_line(&found.iter().map(row).collect::<Vec<_>>()) + "\n",
        ListFormat::Jsonl => found.iter().map(|one| json::to_line(&row(one)) + "\n").collect(),
        ListFormat::Table | ListFormat::Wide if style.is_quiet => {
            found.iter().map(|one| format!("{}\n", one.pid)).collect()
        }
        ListFormat::Table | ListFormat::Wide => {
            let cells = |one: &FoundProcess| {
                let user = one.uid.map_or_else(String::new, |uid| uid.to_string());
                let command = printable::command_line(one.args.iter().flat_map(Args::iter));
                [one.pid.to_string(), user, printable::safe_text(&one.executable), command]
                    .map(or_dash)
                    .to_vec()
            };
            align_columns(
                &["PID", "USER", "EXECUTABLE", "COMMAND"],
                &found.iter().map(cells).collect::<Vec<_>>(),
                style,
            )
        }
    }
}
