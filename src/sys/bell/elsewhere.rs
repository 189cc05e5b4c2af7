//! The bell where there is no eventfd(2): two sockets.

use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
};

/// Readable from when it is rung until it is stilled; rung often, it has rung once.
#[derive(Debug)]
pub struct Bell {
    rope: UnixStream,
    clapper: UnixStream,
}

impl Bell {
    /// A still one.
    ///
    /// # Errors
    ///
    /// What socketpair(2) answered.
    pub fn new() -> io::Result<Self> {
        let (rope, clapper) = UnixStream::pair()?;
        rope.set_nonblocking(true)?;
        clapper.set_nonblocking(true)?;
        Ok(Self { rope, clapper })
    }

    /// Never waits.
    pub fn ring(&self) {
        // A full socket has rung already.
        let _ = (&self.rope).write(&[1]);
    }

    /// Never waits; still it stays so.
    pub fn still(&self) {
        let mut rung = [0; 64];
        while (&self.clapper).read(&mut rung).is_ok_and(|count| count > 0) {}
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.clapper.as_fd()
    }
}
