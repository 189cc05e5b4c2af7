//! Facts about files that the standard library asks their file system for.

use std::{ffi::CString, io, mem, os::unix::ffi::OsStrExt as _, path::Path};

/// Whether the file that a path names has no link: it has been removed, or never had a name. Asks
/// the kernel only, and not the server of a network or FUSE file system, which may hang
/// (`AT_STATX_DONT_SYNC`, statx(2)).
///
/// # Errors
///
/// The error of statx(2).
pub fn has_no_link(path: &Path) -> io::Result<bool> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all bytes of the structure are numbers, for which 0 is valid.
    let mut found: libc::statx = unsafe { mem::zeroed() };
    // SAFETY: the path ends with a NUL, and the kernel writes no more than the structure.
    let result = unsafe {
        libc::statx(
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_STATX_DONT_SYNC,
            libc::STATX_NLINK,
            &raw mut found,
        )
    };
    match result {
        0 => Ok(found.stx_nlink == 0),
        _ => Err(io::Error::last_os_error()),
    }
}
