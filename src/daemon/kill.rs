//! Which processes of containers a `Kill` request means: those of an exec, and the descendants that
//! the kernel's tree does not show any more.

use std::collections::BTreeSet;

use ttrpc::Code;

use super::node::Node;
use crate::{
    api,
    linux::process::start_ticks,
    model::ProcessKey,
    registry::kill::{SignalTarget, Signalled},
};

/// The most processes that an answer names as left.
const LEFT_MAX: usize = 1000;

/// The most bytes of arguments that a named process keeps.
const LEFT_ARGS_MAX: usize = 1024;

/// The processes of an exec of a container, with their descendants, as one target.
///
/// # Errors
///
/// NOT_FOUND if no such container is followed, or no process of the exec lives; INVALID_ARGUMENT if
/// several namespaces have the container, or an id is empty.
pub(super) fn exec_target(
    node: &Node,
    exec: &api::ContainerExec,
) -> Result<SignalTarget, ttrpc::Status> {
    let api::ContainerExec { namespace, container_id, exec_id, .. } = exec;
    if container_id.is_empty() || exec_id.is_empty() {
        let message = "the id of the container or of the exec is empty";
        return Err(ttrpc::get_status(Code::INVALID_ARGUMENT, message));
    }
    let mut processes = node.processes();
    processes.retain(|one| {
        let container = one.container.get_or_default();
        container.id == *container_id && (namespace.is_empty() || container.namespace == *namespace)
    });
    let namespaces: BTreeSet<_> =
        processes.iter().map(|one| one.container.get_or_default().namespace.clone()).collect();
    match namespaces.len() {
        0 => {
            let message = format!("no process of a container {container_id} is known");
            return Err(ttrpc::get_status(Code::NOT_FOUND, message));
        }
        1 => {}
        _ => {
            let namespaces = Vec::from_iter(namespaces).join(", ");
            let message = format!(
                "container {container_id} is in several namespaces ({namespaces}): name one"
            );
            return Err(ttrpc::get_status(Code::INVALID_ARGUMENT, message));
        }
    }
    processes.retain(|one| one.process.get_or_default().exec_id == *exec_id);
    let mut members = processes.iter().filter_map(key_of);
    // A target is a process that lives, and the others. Each is opened by its start too, so a pid
    // that was reused is not signalled.
    let Some(mut target) = members.find_map(SignalTarget::of_process) else {
        let message = format!("no process of an exec {exec_id} runs in container {container_id}");
        return Err(ttrpc::get_status(Code::NOT_FOUND, message));
    };
    target.others = members.collect();
    Ok(target)
}

/// The processes of containers that descend from the targets, by the forks that the shims have
/// reported.
pub(super) fn recorded_descendants(
    node: &Node,
    boot: u32,
    targets: &[SignalTarget],
) -> Vec<api::ContainerProcess> {
    let of = |target: &SignalTarget| node.descendants(&target.key.entity_id(boot).to_string());
    targets.iter().flat_map(of).collect()
}

/// The processes among `recorded` that live and were not signalled, each once, as an answer has
/// them.
pub(super) fn left(
    recorded: Vec<api::ContainerProcess>,
    signalled: &Signalled,
) -> Vec<api::ContainerProcess> {
    let mut named = BTreeSet::new();
    let mut left = recorded;
    left.retain(|one| {
        key_of(one).is_some_and(|key| {
            !signalled.keys.contains(&key)
                && start_ticks(key.pid) == Some(key.start_ticks())
                && named.insert(key.pid)
        })
    });
    left.truncate(LEFT_MAX);
    for process in left.iter_mut().filter_map(|one| one.process.as_mut()) {
        if process.args.iter().map(Vec::len).sum::<usize>() > LEFT_ARGS_MAX {
            process.args.clear();
            process.args_truncated = true;
        }
    }
    left
}

/// The identity of a process of a container.
pub(super) fn key_of(member: &api::ContainerProcess) -> Option<ProcessKey> {
    ProcessKey::of_entity_id(&member.process.get_or_default().entity_id)
}
