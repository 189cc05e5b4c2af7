//! The names of containers.

use crate::{api::Container, cli::output::Style, model::printable};

/// The length of a short id, as Docker and crictl print it.
const SHORT_ID: usize = 12;
/// The length from which on an id of hexadecimal digits is one that a program has made.
const LONG_ID: usize = 32;

/// The name that a person knows a container by: pod and container in Kubernetes, the name that its
/// client gave to it, else its id, which is short on a terminal.
pub(in crate::cli) fn container_name(container: &Container, style: Style) -> String {
    match container.k8s.as_ref().filter(|k8s| !k8s.pod_name.is_empty()) {
        Some(k8s) if k8s.container_name.is_empty() => printable::safe_text(k8s.pod_name.as_bytes()),
        Some(k8s) => {
            printable::safe_text(format!("{}/{}", k8s.pod_name, k8s.container_name).as_bytes())
        }
        None if !container.name.is_empty() => printable::safe_text(container.name.as_bytes()),
        None => short_id(&container.id, style),
    }
}

/// An id, short if the style asks for that and a program has made it. Escaped.
pub(in crate::cli) fn short_id(id: &str, style: Style) -> String {
    let is_made = id.len() >= LONG_ID && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    match is_made && style.has_short_ids {
        true => id[..SHORT_ID].to_owned(),
        false => printable::safe_text(id.as_bytes()),
    }
}
