//! The output of `lookout list` and `lookout add`.

use super::table::{align_columns, or_dash};
use crate::{
    cli::{args::ListFormat, output::Style},
    client::json,
    model::{printable, rfc3339},
    registry::entry::Entry,
};

/// Formats registry entries as a list.
pub(in crate::cli) fn list(entries: &[Entry], format: ListFormat, style: Style) -> String {
    match format {
        ListFormat::Json => json::to_line(&entries) + "\n",
        ListFormat::Jsonl => entries.iter().map(|one| json::to_line(one) + "\n").collect(),
        ListFormat::Table | ListFormat::Wide if style.is_quiet => {
            entries.iter().map(|one| format!("{}\n", one.id)).collect()
        }
        ListFormat::Table => {
            let rows: Vec<_> = entries.iter().map(|one| row(one).to_vec()).collect();
            align_columns(
                &["ID", "PID", "STATE", "NAME", "TAGS", "GROUPS", "COMMAND"],
                &rows,
                style,
            )
        }
        ListFormat::Wide => {
            let rows: Vec<_> = entries.iter().map(wide_row).collect();
            let header = [
                "ID",
                "PID",
                "STATE",
                "USER",
                "STARTED (UTC)",
                "ADDED (UTC)",
                "SEEN (UTC)",
                "NAME",
                "TAGS",
                "GROUPS",
                "EXECUTABLE",
                "COMMAND",
            ];
            align_columns(&header, &rows, style)
        }
    }
}

fn row(one: &Entry) -> [String; 7] {
    let joined = |labels: &std::collections::BTreeSet<String>| {
        printable::safe_text(labels.iter().cloned().collect::<Vec<_>>().join(",").as_bytes())
    };
    [
        one.id.to_string(),
        one.process.pid.to_string(),
        state_cell(one),
        printable::safe_text(one.name.as_deref().unwrap_or_default().as_bytes()),
        joined(&one.tags),
        joined(&one.groups),
        printable::command_line(one.process.command_args.iter().map(String::as_bytes)),
    ]
    .map(or_dash)
}

fn wide_row(one: &Entry) -> Vec<String> {
    let [id, pid, state, name, tags, groups, command] = row(one);
    let time = |time_ns: u64| match time_ns {
        0 => "-".to_owned(),
        time_ns => rfc3339(time_ns).get(..19).unwrap_or_default().replace('T', " "),
    };
    let user = or_dash(one.process.uid.map_or_else(String::new, |uid| uid.to_string()));
    let executable = or_dash(printable::safe_text(one.process.executable.as_bytes()));
    let times = [one.process.created_ns, one.added_ns, one.last_seen_ns].map(time);
    [id, pid, state, user]
        .into_iter()
        .chain(times)
        .chain([name, tags, groups, executable, command])
        .collect()
}

/// The text of the column `STATE`: `alive`, or how the process ended.
fn state_cell(one: &Entry) -> String {
    let Some(end) = &one.end else { return "alive".to_owned() };
    match end.ended() {
        Some(ended) => ended.signal_name().unwrap_or_else(|| format!("exit {}", ended.status())),
        None => "dead".to_owned(),
    }
}
