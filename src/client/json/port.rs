//! The JSON form of a port, and of an open port in a list.

use serde::Serialize;

use super::{
    Attribution, is_false,
    process::{Path, utf8_text},
};
use crate::{api, model::escaped};

/// An open port, as `lookout ports` lists it.
#[derive(Debug, Serialize)]
pub struct OpenPort {
    #[serde(flatten)]
    attribution: Attribution,
    #[serde(flatten)]
    port: Port,
}

/// A port. `network` has OpenTelemetry's names; `port` and `owners` are names of this project.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Port {
    /// `port.*`: the socket.
    network: Network,
    /// `port.*`: who can reach the port.
    port: PortScope,
    /// `port.*`: the processes that called listen(2), or bind(2) for UDP. In a list of ports: all
    /// that hold one of its sockets. At most 32 of them: those that began first.
    owners: Vec<Owner>,
    /// `port.*`: how many processes the owners are; at least that many if several sockets have more
    /// than 32 each.
    #[serde(skip_serializing_if = "Option::is_none")]
    owners_count: Option<u32>,
}

/// The socket of a port.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Network {
    /// `tcp` or `udp`.
    transport: String,
    /// `ipv4` or `ipv6`.
    r#type: String,
    /// The local end.
    local: Local,
}

/// The local end of a socket.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Local {
    /// The address as text: `127.0.0.1`, `::1`.
    address: String,
    /// The port.
    port: u32,
}

/// Who can reach a port.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PortScope {
    /// `loopback`, `wildcard` or `specific`.
    scope: String,
    /// Whether an IPv6 port accepts IPv4 too. Absent if not.
    #[serde(skip_serializing_if = "is_false")]
    dual_stack: bool,
    /// The network namespace: the inode number that `/proc/PID/ns/net` shows. The numbers are
    /// reused after the end of a namespace, and its ports are closed before.
    #[serde(skip_serializing_if = "Option::is_none")]
    network_namespace: Option<u32>,
}

/// A process that holds a port.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Owner {
    /// The pid.
    pid: i32,
    /// The pid in the process's own pid namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    vpid: Option<i32>,
    /// As `process.entity_id`.
    #[serde(skip_serializing_if = "String::is_empty")]
    entity_id: String,
    /// The executable. Absent if it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    executable: Option<Path>,
    /// The exec to which the process belongs. Absent if to none.
    #[serde(skip_serializing_if = "String::is_empty")]
    exec_id: String,
    /// The container of the process. In a pod it can differ from that of the socket.
    #[serde(skip_serializing_if = "String::is_empty")]
    container_id: String,
    /// Whether the path is escaped, as `process.escaped`. Absent if not.
    #[serde(skip_serializing_if = "is_false")]
    escaped: bool,
}

impl From<&api::ContainerPort> for OpenPort {
    fn from(open: &api::ContainerPort) -> Self {
        Self {
            attribution: Attribution::of(open.container.as_ref(), ""),
            port: Port::from(open.port.get_or_default()),
        }
    }
}

impl From<&api::Port> for Port {
    fn from(port: &api::Port) -> Self {
        Self {
            network: Network {
                transport: port.transport.clone(),
                r#type: port.type_.clone(),
                local: Local { address: port.address.clone(), port: port.port },
            },
            port: PortScope {
                scope: port.scope.clone(),
                dual_stack: port.dual_stack,
                network_namespace: port.network_namespace,
            },
            owners: port.owners.iter().map(Owner::from).collect(),
            owners_count: port.owners_count,
        }
    }
}

impl From<&api::Owner> for Owner {
    fn from(owner: &api::Owner) -> Self {
        let path = owner.executable.as_deref();
        let is_escaped = path.is_some_and(|path| std::str::from_utf8(path).is_err());
        let text = if is_escaped { escaped } else { utf8_text };
        Self {
            pid: owner.pid,
            vpid: owner.vpid,
            entity_id: owner.entity_id.clone(),
            executable: path.map(|path| Path { path: text(path), deleted: false }),
            exec_id: owner.exec_id.clone(),
            container_id: owner.container_id.clone(),
            escaped: is_escaped,
        }
    }
}
