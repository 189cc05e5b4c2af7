//! The output of `lookout ps`.

use super::{
    events::{command_text, origin_text},
    table::{align_columns, or_dash},
};
use crate::{
    api::ContainerProcess,
    cli::{args::ListFormat, output::Style},
    client::json,
    model::{printable, rfc3339},
};

/// Formats processes as a list.
pub(in crate::cli) fn list(
    processes: &[ContainerProcess],
    format: ListFormat,
    style: Style,
) -> String {
    match format {
        ListFormat::Json => {
            json::to_line(&processes.iter().map(json::ListedProcess::from).collect::<Vec<_>>())
                + "\n"
        }
        ListFormat::Jsonl => processes
            .iter()
            .map(|one| json::to_line(&json::ListedProcess::from(one)) + "\n")
            .collect(),
        ListFormat::Table | ListFormat::Wide if style.is_quiet => {
            processes.iter().map(|one| format!("{}\n", one.process.get_or_default().pid)).collect()
        }
        ListFormat::Table => {
            let rows: Vec<_> = processes.iter().map(|one| row(one).to_vec()).collect();
            align_columns(
                &["CONTAINER", "PID", "PPID", "USER", "STARTED (UTC)", "ORIGIN", "COMMAND"],
                &rows,
                style,
            )
        }
        ListFormat::Wide => {
            let rows: Vec<_> = processes.iter().map(wide_row).collect();
            let header = [
                "NAMESPACE",
                "CONTAINER",
                "PID",
                "VPID",
                "PPID",
                "USER",
                "STARTED (UTC)",
                "ORIGIN",
                "EXECUTABLE",
                "DIRECTORY",
                "COMMAND",
            ];
            align_columns(&header, &rows, style)
        }
    }
}

fn row(one: &ContainerProcess) -> [String; 7] {
    let process = one.process.get_or_default();
    // `parent_pid` is 0 if the parent is not known.
    let number = |number: i32| if number == 0 { String::new() } else { number.to_string() };
    let created = rfc3339(process.created_ns);
    [
        printable::safe_text(one.container.get_or_default().id.as_bytes()),
        process.pid.to_string(),
        number(process.parent_pid),
        process.uid.map_or_else(String::new, |uid| uid.to_string()),
        if process.created_ns == 0 {
            String::new()
        } else {
            created.get(..19).unwrap_or_default().replace('T', " ")
        },
        origin_text(process),
        command_text(process),
    ]
    .map(or_dash)
}

fn wide_row(one: &ContainerProcess) -> Vec<String> {
    let process = one.process.get_or_default();
    let [container, pid, parent_pid, user, created, origin, command] = row(one);
    let path =
        |path: &Option<Vec<u8>>| path.as_deref().map(printable::safe_text).unwrap_or_default();
    vec![
        or_dash(printable::safe_text(one.container.get_or_default().namespace.as_bytes())),
        container,
        pid,
        or_dash(process.vpid.map_or_else(String::new, |vpid| vpid.to_string())),
        parent_pid,
        user,
        created,
        origin,
        or_dash(path(&process.executable)),
        or_dash(path(&process.working_directory)),
        command,
    ]
}
