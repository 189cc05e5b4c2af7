//! The types that all modules share. This module has no I/O, reads no clock and is not async.

mod capability;
mod chain;
mod charge;
mod description;
mod ended;
mod event;
mod exit;
mod file;
mod lineage;
mod network_namespace;
mod observation;
mod port;
pub mod printable;
mod process;
mod process_id;
mod socket;
mod spec;
mod text;
mod time;

pub use capability::{Capability, Category, Support};
pub use chain::chain;
pub(crate) use charge::{ByteLimit, Charge};
pub use description::{Annotation, Description, Kubernetes};
pub use ended::Ended;
#[cfg(test)]
pub(crate) use event::EVENT_DOCS;
pub use event::{
    Activity, Backend, Body, Container, EVENT_TYPES, Event, Gap, Grade, HOLDERS_NAMED,
    IgnoredSetting, RecordCounts, Stage,
};
pub use exit::Exit;
pub use file::FileId;
pub use lineage::Lineage;
pub use network_namespace::NetworkNamespace;
pub use observation::{ContainerObserver, NewContainer, ObservedContainer, RuntimeCall};
pub use port::{Endpoint, Owner, Owners, Port, Scope, Transport};
pub use printable::is_unsafe_to_print;
pub use process::{
    Args, EntityId, Image, Origin, Parent, Process, ProcessKey, StartTicks, TICKS_PER_SECOND,
    UnknownReason,
};
pub use process_id::ProcessId;
pub use socket::{ListedSocket, Socket, SocketState};
pub use spec::Spec;
pub use text::{Text, escaped, lossless};
pub use time::rfc3339;
