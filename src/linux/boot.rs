//! The identity of this boot, and the time since the boot.

use std::io;

use nix::time::ClockId;

use super::read::read;
use crate::clock::{boottime_shift_ns, unshifted};

/// The first 32 bits of the boot id, which is random (`/proc/sys/kernel/random/boot_id`,
/// random(4)). Part of every entity id, because a pid and a start time may repeat in another boot.
///
/// # Errors
///
/// The error of reading the file; `InvalidData` if the file does not begin with eight hexadecimal
/// digits.
pub fn boot_id() -> io::Result<u32> {
    parse(&read("/proc/sys/kernel/random/boot_id", 64)?)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

pub(super) fn parse(text: &[u8]) -> Option<u32> {
    u32::from_str_radix(str::from_utf8(text.get(..8)?).ok()?, 16).ok()
}

/// Nanoseconds since boot, including the time that the machine was suspended: `CLOCK_BOOTTIME` of
/// the initial time namespace. The kernel has the start of a process on this clock.
#[must_use]
pub fn boottime_ns() -> u64 {
    unshifted(ClockId::CLOCK_BOOTTIME, boottime_shift_ns())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that the first eight digits are parsed, and that anything else is refused.
    #[test]
    fn the_boot_id_is_its_first_eight_digits() {
        assert_eq!(parse(b"f00dcafe-0000-4000-8000-000000000000\n"), Some(0xf00d_cafe));
        assert_eq!((parse(b"f00d"), parse(b"not hexadecimal"), parse(b"")), (None, None, None));
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
    }
}
