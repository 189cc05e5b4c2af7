//! The output of `lookout ps`.

use super::{
    events::{command_text, origin_text},
    names::{container_name, short_id},
    rows::list_of_objects,
    table::{Column, Table, or_dash},
};
use crate::{
    api::ContainerProcess,
    cli::{args::Format, clock, output::Style},
    client::json,
    model::printable,
};

const TABLE_COLUMNS: [Column; 7] = [
    Column::new("CONTAINER", 20).least(12),
    Column::new("PID", 7).right(),
    Column::new("PPID", 7).right().rank(3),
    Column::new("USER", 5).least(5).rank(2),
    Column::new("AGE", 6).right(),
    Column::new("ORIGIN", 16).least(10).rank(1),
    Column::last("COMMAND"),
];
const WIDE_COLUMNS: [Column; 11] = [
    Column::new("NAMESPACE", 9),
    Column::new("CONTAINER", 12),
    Column::new("PID", 7),
    Column::new("VPID", 4),
    Column::new("PPID", 7),
    Column::new("USER", 4),
    Column::new("STARTED", 19),
    Column::new("ORIGIN", 10),
    Column::new("EXECUTABLE", 10),
    Column::new("DIRECTORY", 9),
    Column::last("COMMAND"),
];

/// Formats processes as a list.
pub(in crate::cli) fn list(
    processes: &[ContainerProcess],
    format: &Format,
    style: Style,
) -> String {
    let objects: Vec<_> = processes.iter().map(json::ListedProcess::from).collect();
    if let Some(text) = list_of_objects(&objects, format, style) {
        return text;
    }
    if style.is_quiet {
        let pid = |one: &ContainerProcess| format!("{}\n", one.process.get_or_default().pid);
        return processes.iter().map(pid).collect();
    }
    if *format == Format::Wide {
        let rows: Vec<_> = processes.iter().map(|one| wide_row(one, style)).collect();
        return Table::of_rows(&WIDE_COLUMNS, &rows, style.uncut()).page(&rows);
    }
    let mut columns = TABLE_COLUMNS;
    if style.clock.is_complete() {
        columns[4] = Column::new("STARTED (UTC)", 20);
    }
    let rows: Vec<_> = processes.iter().map(|one| row(one, style)).collect();
    Table::of_rows(&columns, &rows, style).page(&rows)
}

fn row(one: &ContainerProcess, style: Style) -> Vec<String> {
    let process = one.process.get_or_default();
    // A person compares ages; a program, and a file that is read later, need the time.
    let age = |created: u64| match style.clock.is_complete() {
        true => style.clock.date_and_time(created),
        false => clock::age(created),
    };
    let age = (process.created_ns > 0).then(|| age(process.created_ns));
    [
        container_name(one.container.get_or_default(), style),
        process.pid.to_string(),
        number(process.parent_pid),
        process.uid.map_or_else(String::new, |uid| uid.to_string()),
        age.unwrap_or_default(),
        origin_text(process),
        command_text(process),
    ]
    .map(or_dash)
    .to_vec()
}

/// A number of which 0 means that it is not known.
fn number(number: i32) -> String {
    if number == 0 { String::new() } else { number.to_string() }
}

fn wide_row(one: &ContainerProcess, style: Style) -> Vec<String> {
    let process = one.process.get_or_default();
    let container = one.container.get_or_default();
    let path =
        |path: &Option<Vec<u8>>| path.as_deref().map(printable::safe_text).unwrap_or_default();
    let started = (process.created_ns > 0).then(|| style.clock.date_and_time(process.created_ns));
    [
        printable::safe_text(container.namespace.as_bytes()),
        short_id(&container.id, Style::default()),
        process.pid.to_string(),
        process.vpid.map_or_else(String::new, |vpid| vpid.to_string()),
        number(process.parent_pid),
        process.uid.map_or_else(String::new, |uid| uid.to_string()),
        started.unwrap_or_default(),
        origin_text(process),
        path(&process.executable),
        path(&process.working_directory),
        command_text(process),
    ]
    .map(or_dash)
    .to_vec()
}
