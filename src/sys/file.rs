//! The attributes of files, read without asking a file system's server (as the standard library
//! does), which may hang.

use std::{ffi::CString, io, mem, os::unix::ffi::OsStrExt as _, path::Path};

/// What the kernel knows of a file.
#[derive(Debug, Clone, Copy)]
pub struct Attributes {
    /// The type of the file: `S_IFIFO`, `S_IFSOCK` and so on.
    pub kind: libc::mode_t,
    /// For a device, its major number.
    pub device_major: u32,
    /// The device that the file is on, as `stat.st_dev` encodes it.
    pub device: u64,
    /// The inode number of the file.
    pub inode: u64,
    /// The number of hard links; 0 if the file has been removed, or never had a name.
    pub links: u32,
}

/// The attributes of the file that a path names. Asks the kernel only, and not the server of a
/// network or FUSE file system, which may hang (`AT_STATX_DONT_SYNC`, statx(2)).
///
/// # Errors
///
/// The error of statx(2).
pub fn attributes(path: &Path) -> io::Result<Attributes> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all bytes of the structure are numbers, for which 0 is valid.
    let mut found: libc::statx = unsafe { mem::zeroed() };
    // SAFETY: the path ends with a NUL, and the kernel writes no more than the structure.
    let result = unsafe {
        libc::statx(
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_STATX_DONT_SYNC,
            libc::STATX_NLINK | libc::STATX_TYPE | libc::STATX_INO,
            &raw mut found,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Attributes {
        kind: libc::mode_t::from(found.stx_mode) & libc::S_IFMT,
        device_major: found.stx_rdev_major,
        device: libc::makedev(found.stx_dev_major, found.stx_dev_minor),
        inode: found.stx_ino,
        links: found.stx_nlink,
    })
}
