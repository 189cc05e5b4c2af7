//! The output of `lookout ports`: a list of ports, or with `-w` a stream of changes.

use super::{
    gap::gap_text,
    names::{container_name, short_id},
    rows::list_of_objects,
    table::{Column, Table, or_dash},
};
use crate::{
    api::{Container, ContainerPort, Event, Gap, Owner, Port},
    cli::{args::Format, output::Style},
    client::json,
    model::printable,
};

const TABLE_COLUMNS: [Column; 6] = [
    Column::new("CONTAINER", 20).least(12),
    Column::new("PROTO", 5),
    Column::new("ADDRESS", 24).least(17),
    Column::new("SCOPE", 11).rank(2),
    Column::new("PID", 7).least(7).rank(1),
    Column::last("PROGRAM"),
];
const WIDE_COLUMNS: [Column; 11] = [
    Column::new("NAMESPACE", 9),
    Column::new("CONTAINER", 12),
    Column::new("PROTO", 5),
    Column::new("ADDRESS", 24),
    Column::new("SCOPE", 11),
    Column::new(NETNS_TITLE, 10),
    Column::new("PID", 7),
    Column::new("VPID", 4),
    Column::new("EXEC", 4),
    Column::new("OWNER OF", 8),
    Column::last("PROGRAM"),
];
/// The columns of `ports -w`.
const FOLLOW_COLUMNS: [Column; 7] = [
    Column::new("STATE", 6),
    Column::new("CONTAINER", 20).least(12),
    Column::new("PROTO", 5),
    Column::new("ADDRESS", 24).least(15),
    Column::new("SCOPE", 11).rank(2),
    Column::new("PID", 7).least(7).rank(1),
    Column::last("PROGRAM"),
];
/// The columns of `ports -w -o wide`.
const FOLLOW_WIDE_COLUMNS: [Column; 8] = [
    Column::new("STATE", 6),
    Column::new("CONTAINER", 20),
    Column::new("PROTO", 5),
    Column::new("ADDRESS", 24),
    Column::new("SCOPE", 11),
    Column::new("PID", 7),
    Column::new(NETNS_TITLE, 10),
    Column::last("PROGRAM"),
];

/// The title of the column that shows the inode of the network namespace.
const NETNS_TITLE: &str = "NETNS";

/// Formats open ports as a list.
pub(in crate::cli) fn list(ports: &[ContainerPort], format: &Format, style: Style) -> String {
    let objects: Vec<_> = ports.iter().map(json::OpenPort::from).collect();
    if let Some(text) = list_of_objects(&objects, format, style) {
        return text;
    }
    if style.is_quiet {
        let address = |one: &ContainerPort| address_text(one.port.get_or_default()) + "\n";
        return ports.iter().map(address).collect();
    }
    if *format == Format::Wide {
        let rows: Vec<_> = ports.iter().map(wide_row).collect();
        return Table::of_rows(&WIDE_COLUMNS, &rows, style.uncut()).page(&rows);
    }
    let rows: Vec<_> = ports.iter().map(|one| row(one, style)).collect();
    Table::of_rows(&TABLE_COLUMNS, &rows, style).page(&rows)
}

/// Formats the rows of `ports -w`, one by one.
#[derive(Debug, Clone)]
pub(in crate::cli) struct PortRows {
    format: Format,
    table: Table,
    style: Style,
}

impl PortRows {
    pub(in crate::cli) fn new(format: Format, style: Style) -> Self {
        let table = match format {
            Format::Wide => Table::of_stream(&FOLLOW_WIDE_COLUMNS, style.uncut()),
            _ => Table::of_stream(&FOLLOW_COLUMNS, style),
        };
        Self { format, table, style }
    }

    fn is_table(&self) -> bool {
        matches!(self.format, Format::Table | Format::Wide)
    }

    /// The text before the first row.
    pub(in crate::cli) fn header(&self) -> String {
        if self.is_table() { self.table.header() } else { String::new() }
    }

    /// Formats a port that was open when `ports -w` started.
    pub(in crate::cli) fn format_open_port(&self, one: &ContainerPort) -> String {
        match self.is_table() {
            false => json::to_line(&json::OpenPort::from(one)) + "\n",
            true => self.row("open", one.container.get_or_default(), one.port.get_or_default()),
        }
    }

    /// Formats a port that was opened or closed.
    pub(in crate::cli) fn format_change(&self, event: &Event, port: &Port) -> String {
        if !self.is_table() {
            return json::to_line(&json::Event::from(event)) + "\n";
        }
        let state = if event.type_ == "port.open" { "opened" } else { "closed" };
        self.row(state, event.container.get_or_default(), port)
    }

    /// Formats a gap as a row among the changes of ports.
    pub(in crate::cli) fn format_gap(&self, event: &Event, gap: &Gap) -> String {
        if !self.is_table() {
            return json::to_line(&json::Event::from(event)) + "\n";
        }
        let columns = if self.format == Format::Wide { 8 } else { 7 };
        let mut row = vec![String::new(); columns];
        row[0] = "gap".to_owned();
        row[1] = container_name(event.container.get_or_default(), self.style);
        row[columns - 1] = gap_text(gap);
        let row: Vec<String> = row.into_iter().map(or_dash).collect();
        self.style.highlight_failure(self.table.row(&row)) + "\n"
    }

    fn row(&self, state: &str, container: &Container, port: &Port) -> String {
        let [protocol, address, scope, pid, program] = common_columns(port);
        let container = container_name(container, self.style);
        let mut row = vec![state.to_owned(), container, protocol, address, scope, pid];
        if self.format == Format::Wide {
            row.push(network_namespace_text(port));
        }
        row.push(program);
        self.table.row(&row.into_iter().map(or_dash).collect::<Vec<_>>()) + "\n"
    }
}

/// Describes a port in the row of an event. A wide row also has its network namespace.
pub(in crate::cli) fn port_text(port: &Port, is_wide: bool) -> String {
    let by = port
        .owners
        .first()
        .map(program_text)
        .map_or_else(String::new, |program| format!(" by {program}"));
    let within = port.network_namespace.filter(|_| is_wide);
    let within = within.map_or_else(String::new, |inode| format!(" in netns {inode}"));
    let transport = printable::safe_text(port.transport.as_bytes());
    format!("{transport} {} {}{within}{by}", address_text(port), scope_text(port))
}

fn row(one: &ContainerPort, style: Style) -> Vec<String> {
    let [protocol, address, scope, pid, program] = common_columns(one.port.get_or_default());
    let container = container_name(one.container.get_or_default(), style);
    [container, protocol, address, scope, pid, program].map(or_dash).to_vec()
}

fn wide_row(one: &ContainerPort) -> Vec<String> {
    let [protocol, address, scope, pid, program] = common_columns(one.port.get_or_default());
    let owners = &one.port.get_or_default().owners;
    let container = one.container.get_or_default();
    let of = |part: fn(&Owner) -> String| joined_values(owners, part);
    [
        printable::safe_text(container.namespace.as_bytes()),
        short_id(&container.id, Style::default()),
        protocol,
        address,
        scope,
        network_namespace_text(one.port.get_or_default()),
        pid,
        of(|owner| owner.vpid.map_or_else(String::new, |vpid| vpid.to_string())),
        of(|owner| printable::safe_text(owner.exec_id.as_bytes())),
        of(|owner| printable::safe_text(owner.container_id.as_bytes())),
        program,
    ]
    .map(or_dash)
    .to_vec()
}

fn common_columns(port: &Port) -> [String; 5] {
    [
        printable::safe_text(port.transport.as_bytes()),
        address_text(port),
        scope_text(port),
        pids_text(port),
        joined_values(&port.owners, program_text),
    ]
}

/// The pids of the owners that are named, and how many more there are.
fn pids_text(port: &Port) -> String {
    let pids = joined_values(&port.owners, |owner| owner.pid.to_string());
    match (port.owners_count.unwrap_or_default() as usize).saturating_sub(port.owners.len()) {
        0 => pids,
        more => format!("{pids} and {more} more"),
    }
}

/// The values of one property of the owners that are named, joined by commas and without
/// duplicates.
fn joined_values(owners: &[Owner], part: fn(&Owner) -> String) -> String {
    let mut parts: Vec<String> = Vec::new();
    for owner in owners {
        let part = part(owner);
        if !part.is_empty() && !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts.join(",")
}

fn program_text(owner: &Owner) -> String {
    owner.executable.as_deref().map_or_else(|| "?".to_owned(), printable::safe_text)
}

fn scope_text(port: &Port) -> String {
    let scope = printable::safe_text(port.scope.as_bytes());
    if port.dual_stack { format!("{scope}+v4") } else { scope }
}

fn network_namespace_text(port: &Port) -> String {
    port.network_namespace.map_or_else(String::new, |inode| inode.to_string())
}

fn address_text(port: &Port) -> String {
    let address = printable::safe_text(port.address.as_bytes());
    if port.type_ == "ipv6" {
        format!("[{address}]:{}", port.port)
    } else {
        format!("{address}:{}", port.port)
    }
}
