//! Marks runtime calls: before the shim spawns a runtime, it names the spawning thread to the eBPF
//! programs, so that each record of the runtime's processes has the number of the call.

use std::{io, os::fd::OwnedFd};

use libbpf_rs::{MapCore as _, MapFlags, MapHandle};

use super::{
    layout::{CallContext, Plain as _},
    pins::Pins,
    refused,
};
use crate::{
    observe::{
        record::{CallId, TargetId},
        source::{CallMarker, SourceError},
    },
    sys::bpf::run_program,
};

/// One shim's access to the eBPF program that marks the thread which spawns a runtime.
#[derive(Debug)]
pub(super) struct SpawnMarker {
    program: OwnedFd,
    calls: MapHandle,
    slot: u32,
}

impl SpawnMarker {
    /// The marker of the shim with this slot.
    ///
    /// # Errors
    ///
    /// [`SourceError::Kernel`] if the program cannot be run. Then the runtime's processes could not
    /// be distinguished from those of the container.
    pub(super) fn new(pins: &Pins, slot: u32) -> Result<Self, SourceError> {
        let calls = refused("duplicate the descriptor of a pinned eBPF map");
        let calls = MapHandle::try_from(&pins.calls).map_err(calls)?;
        let program = pins.call.try_clone();
        let program = program.map_err(refused("duplicate the descriptor of an eBPF program"))?;
        let marker = Self { program, calls, slot };
        // Removes a mark that does not exist: without effect, but it shows whether the program can
        // be run.
        marker.run(&CallContext::default()).map_err(refused("run an eBPF program"))?;
        Ok(marker)
    }

    fn run(&self, context: &CallContext) -> io::Result<u32> {
        run_program(&self.program, &mut context.to_bytes())
    }

    /// The id of a call in the maps, which is unique on the node.
    fn id_on_node(&self, call: CallId) -> u64 {
        // Slot 0 must not make an id of 0, which means that there is no call.
        u64::from(self.slot + 1) << 32 | u64::from(call.0)
    }
}

impl CallMarker for SpawnMarker {
    fn spawn_begins(&self, call: CallId, target: Option<TargetId>) -> io::Result<()> {
        let id = self.id_on_node(call);
        self.calls
            .update(&id.to_bytes(), &self.slot.to_bytes(), MapFlags::ANY)
            .map_err(io::Error::other)?;
        match self.run(&CallContext { id, target: target.map_or(0, |target| target.0) })? {
            0 => Ok(()),
            _ => Err(io::Error::other("the eBPF map of members is full")),
        }
    }

    fn spawn_ended(&self) {
        // This fails only if `spawn_begins` has failed too.
        let _ = self.run(&CallContext::default());
    }

    fn ended(&self, call: CallId) {
        let _ = self.calls.delete(&self.id_on_node(call).to_bytes());
    }
}
