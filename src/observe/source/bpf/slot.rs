//! Slots: each shim claims one index of the node-wide map of rings and puts its ring there.

use std::{
    io, process, thread,
    time::{Duration, Instant},
};

use libbpf_rs::{MapCore as _, MapFlags, MapHandle};

use super::{
    layout::{Owner, Plain as _, SLOTS},
    pins::{Pins, map_value, own_pid_namespace},
    refused,
    ring::Ring,
};
use crate::{linux::process::start_ticks, observe::source::SourceError};

/// Claims the lowest free slot for this process. Shims leave their rings in their slots, so
/// claiming the lowest slot keeps the number of rings small: see the `Drop` of
/// [`BpfSource`](super::BpfSource).
///
/// # Errors
///
/// [`SourceError::Full`] if all slots have owners, living or dead.
pub(super) fn claim(pins: &Pins) -> Result<u32, SourceError> {
    let owner = this_process()?;
    for slot in 0..SLOTS {
        if claim_one(pins, slot, &owner)? {
            return Ok(slot);
        }
    }
    Err(SourceError::Full { what: "ring slots", limit: SLOTS })
}

/// Frees the ring in a slot without an owner. Returns whether there was one.
///
/// The slot is claimed meanwhile: a shim that starts takes another one, and does not lose the ring
/// that it has just put there.
pub(super) fn free_ring(pins: &Pins, slot: u32) -> Result<bool, SourceError> {
    if map_value::<_, u32>(&pins.rings, &slot)?.is_none()
        || !claim_one(pins, slot, &this_process()?)?
    {
        return Ok(false);
    }
    let freed = pins.rings.delete(&slot.to_bytes());
    release(pins, slot);
    freed.map(|()| true).map_err(refused("free a ring"))
}

/// Gives a slot back.
pub(super) fn release(pins: &Pins, slot: u32) {
    let _ = pins.owners.delete(&slot.to_bytes());
}

/// This process as the owner of a slot.
fn this_process() -> Result<Owner, SourceError> {
    let pid = process::id();
    let start = i32::try_from(pid).ok().and_then(start_ticks);
    Ok(Owner {
        pid,
        pid_namespace: own_pid_namespace(),
        start_ticks: start.ok_or(SourceError::Missing { what: "/proc" })?,
    })
}

/// Claims a slot for `owner`. Returns whether it had no owner.
fn claim_one(pins: &Pins, slot: u32, owner: &Owner) -> Result<bool, SourceError> {
    // NO_EXIST makes the claim atomic, so two shims that start together need no lock.
    match pins.owners.update(&slot.to_bytes(), &owner.to_bytes(), MapFlags::NO_EXIST) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == libbpf_rs::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(refused("claim a slot")(error)),
    }
}

/// Puts a ring in a slot, where it replaces the ring of an earlier owner.
///
/// The kernel exchanges the two rings at once, and then waits for an RCU grace period, some 12 ms,
/// because programs may still use the old ring. A temporary thread makes the system call and waits
/// for its end, while this function returns after the exchange.
///
/// # Errors
///
/// [`SourceError::Kernel`] if the kernel refuses the update, or if the ring is not in the slot
/// after one second.
pub(super) fn put_ring(pins: &Pins, slot: u32, ring: &Ring) -> Result<(), SourceError> {
    const ACTION: &str = "put the ring into its slot";
    const DEADLINE: Duration = Duration::from_secs(1);
    let new = ring.id().map_err(refused("read the id of the ring"))?;
    let rings = MapHandle::try_from(&pins.rings).map_err(refused("duplicate the map of rings"))?;
    let (key, descriptor) = (slot.to_bytes(), ring.raw_fd().to_ne_bytes());
    // One system call needs little stack. The default of 2 MiB would be address space of every
    // shim, and with transparent huge pages memory.
    let update = thread::Builder::new().name("ring".into()).stack_size(32 << 10);
    let update = update.spawn(move || rings.update(&key, &descriptor, MapFlags::ANY));
    let update = update.map_err(refused(ACTION))?;
    let begun = Instant::now();
    while !update.is_finished() {
        // A look-up in a map of maps returns the id of the inner map.
        if map_value::<_, u32>(&pins.rings, &slot)? == Some(new) {
            return Ok(());
        }
        if begun.elapsed() > DEADLINE {
            let source =
                io::Error::new(io::ErrorKind::TimedOut, "the slot still has another ring or none");
            return Err(SourceError::Kernel { action: ACTION, source });
        }
        thread::sleep(Duration::from_micros(50));
    }
    // The update may have finished after the last look-up in the slot, so the result of the update
    // decides here.
    let updated = update.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    updated.map_err(refused(ACTION))
}
