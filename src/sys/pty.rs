//! Pseudoterminals: receiving the descriptor of the master, and setting the size of the terminal.

use std::{
    io::{self, IoSliceMut},
    os::fd::{AsFd, AsRawFd, FromRawFd as _, OwnedFd},
};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// Receives one message on a unix stream socket and the first descriptor that was sent with the
/// message (`SCM_RIGHTS`). The descriptor is close-on-exec. Further descriptors are closed.
///
/// # Errors
///
/// [`io::ErrorKind::WouldBlock`] if a non-blocking socket has no message,
/// [`io::ErrorKind::UnexpectedEof`] if the peer has closed the connection,
/// [`io::ErrorKind::InvalidData`] if the message has no descriptor.
pub fn receive_descriptor(socket: impl AsFd) -> io::Result<OwnedFd> {
    // runc sends the name of the terminal as data, and crun sends one byte. Neither is needed.
    let mut name = [0_u8; 4096];
    let mut data = [IoSliceMut::new(&mut name)];
    let mut control = nix::cmsg_space!([std::os::fd::RawFd; 4]);
    let socket = socket.as_fd().as_raw_fd();
    let message = recvmsg::<()>(socket, &mut data, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut received = Vec::new();
    for item in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = item {
            for number in numbers {
                // SAFETY: recvmsg(2) has just created this descriptor, so it has no other owner.
                received.push(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
    }
    match received.into_iter().next() {
        Some(descriptor) => Ok(descriptor),
        None if message.bytes == 0 => Err(io::ErrorKind::UnexpectedEof.into()),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Sets the size of a terminal in characters (`TIOCSWINSZ`). The kernel sends `SIGWINCH` to the
/// foreground process group of the terminal.
///
/// # Errors
///
/// `ENOTTY` if the descriptor is not a terminal, `EIO` if the terminal was hung up.
pub fn set_size(terminal: impl AsFd, width: u16, height: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize through a valid pointer.
    let result = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &size) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The size of a terminal in characters: width, height.
#[cfg(test)]
pub(crate) fn size(terminal: impl AsFd) -> io::Result<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize through a valid pointer.
    let result = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &mut size) };
    match result {
        0 => Ok((size.ws_col, size.ws_row)),
        _ => Err(io::Error::last_os_error()),
    }
}
