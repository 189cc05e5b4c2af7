//! The identity of this boot.

use std::io;

use super::read::read;

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

fn parse(text: &[u8]) -> Option<u32> {
    u32::from_str_radix(str::from_utf8(text.get(..8)?).ok()?, 16).ok()
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
