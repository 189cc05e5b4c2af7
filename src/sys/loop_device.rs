//! Loop devices, which show a file as a block device (loop(4)).

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

/// The requests and flags of `include/uapi/linux/loop.h`.
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// The number of attempts to get a device. An attempt fails if another process takes the free
/// device first.
const TRIES: u32 = 100;

/// `struct loop_info64`.
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`, Linux 5.8.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// A loop device. The kernel frees it when it is neither open nor mounted any more.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    _open: File,
}

impl LoopDevice {
    /// Attaches a file to a free loop device.
    ///
    /// # Errors
    ///
    /// The error of opening the file or the device, or of ioctl(2).
    pub fn attach(file: &Path, read_only: bool) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(!read_only);
        let backing = options.open(file)?;
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
        for _ in 1..TRIES {
            match Self::attach_to(free(&control)?, &backing, &options, read_only) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                other => return other,
            }
        }
        Self::attach_to(free(&control)?, &backing, &options, read_only)
    }

    /// The path of the device.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn attach_to(
        number: i32,
        backing: &File,
        options: &OpenOptions,
        read_only: bool,
    ) -> io::Result<Self> {
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = options.open(&path)?;
        // SAFETY: all fields of the structure are numbers, for which 0 is valid.
        let mut config: Config = unsafe { std::mem::zeroed() };
        config.fd = backing.as_raw_fd().cast_unsigned();
        config.info.flags = LO_FLAGS_AUTOCLEAR | if read_only { LO_FLAGS_READ_ONLY } else { 0 };
        // SAFETY: the device is open, and the kernel only reads the structure.
        let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
        match result {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(Self { path, _open: device }),
        }
    }
}

/// The number of a device that is free at this moment.
fn free(control: &File) -> io::Result<i32> {
    // SAFETY: the request has no argument.
    match unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) } {
        -1 => Err(io::Error::last_os_error()),
        number => Ok(number),
    }
}
