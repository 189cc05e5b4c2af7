//! The JSON form of a port, and of an open port in a list.

use serde::Serialize;

use super::{
    Attribution, is_false,
    process::{Path, plain},
};
use crate::{api, model::escaped};

/// An open port, as `ports` lists it.
#[derive(Debug, Serialize)]
pub struct OpenPort {
    #[serde(flatten)]
    attribution: Attribution,
    #[serde(flatten)]
    port: Port,
}

/// A port. `network` has OpenTelemetry's names; `port` and `owners` are names of this project.
#[derive(Debug, Serialize)]
pub(super) struct Port {
    network: Network,
    port: PortScope,
    owners: Vec<Owner>,
}

#[derive(Debug, Serialize)]
struct Network {
    transport: String,
    r#type: String,
    local: Local,
}

#[derive(Debug, Serialize)]
struct Local {
    address: String,
    port: u32,
}

#[derive(Debug, Serialize)]
struct PortScope {
    scope: String,
    #[serde(skip_serializing_if = "is_false")]
    dual_stack: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    network_namespace: Option<u32>,
}

#[derive(Debug, Serialize)]
struct Owner {
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    vpid: Option<i32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    entity_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    executable: Option<Path>,
    #[serde(skip_serializing_if = "String::is_empty")]
    exec_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    container_id: String,
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
        }
    }
}

impl From<&api::Owner> for Owner {
    fn from(owner: &api::Owner) -> Self {
        let path = owner.executable.as_deref();
        let is_escaped = path.is_some_and(|path| std::str::from_utf8(path).is_err());
        let text = if is_escaped { escaped } else { plain };
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
