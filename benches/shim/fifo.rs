//! A fifo as a client creates it for a container's output, and a reader without further work.

use std::{
    fs::{File, OpenOptions},
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::stat::Mode,
    unistd::mkfifo,
};

use crate::{Result, bundle::Bundle};

/// A fifo in a bundle, held open for reading.
#[derive(Debug)]
pub(crate) struct Fifo {
    path: PathBuf,
    reader: File,
}

impl Fifo {
    /// Creates the fifo and opens it at once, because a shim that opens it for writing waits for a
    /// reader.
    pub(crate) fn new(bundle: &Bundle, name: &str) -> Result<Self> {
        let path = bundle.path.join(name);
        mkfifo(&path, Mode::from_bits_truncate(0o600))?;
        let reader =
            OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path)?;
        // Only the open had to be non-blocking.
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::empty()))?;
        Ok(Self { path, reader })
    }

    /// Fifos for stdout and stderr.
    pub(crate) fn outputs(bundle: &Bundle) -> Result<[Self; 2]> {
        Ok([Self::new(bundle, "stdout")?, Self::new(bundle, "stderr")?])
    }

    /// Its path, as Create names it.
    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Reads and discards `bytes` bytes.
    pub(crate) fn read(&mut self, bytes: usize) -> Result<()> {
        let mut buffer = vec![0; 64 << 10];
        let mut left = bytes;
        while left > 0 {
            match self.reader.read(&mut buffer)? {
                0 => return Err(format!("the output ended {left} bytes early").into()),
                read => {
                    left = left
                        .checked_sub(read)
                        .ok_or("the output is longer than what was written")?
                }
            }
        }
        Ok(())
    }
}
