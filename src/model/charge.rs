//! Counts the bytes of large values against a limit, for as long as the values live.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A limit of bytes that several values share.
#[derive(Debug)]
pub(crate) struct ByteLimit {
    limit: usize,
    /// The bytes that count against the limit now. Shared with each [`Charge`].
    used: Arc<AtomicUsize>,
}

/// The bytes of one value, which count against a [`ByteLimit`] until the charge is dropped. A clone
/// of the value counts as well, even beyond the limit.
#[derive(Debug)]
pub(crate) struct Charge {
    used: Arc<AtomicUsize>,
    bytes: usize,
}

impl ByteLimit {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, used: Arc::default() }
    }

    /// Counts `bytes` against the limit; `None` if fewer are left.
    pub(crate) fn charge(&self, bytes: usize) -> Option<Charge> {
        // Only one thread charges, so nothing is added between the check and the addition. The
        // counter orders no other data, so it needs no stronger ordering.
        let left = self.limit.saturating_sub(self.used());
        (bytes <= left).then(|| Charge::new(&self.used, bytes))
    }

    /// The bytes that count against the limit now.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl Charge {
    fn new(used: &Arc<AtomicUsize>, bytes: usize) -> Self {
        used.fetch_add(bytes, Ordering::Relaxed);
        Self { used: used.clone(), bytes }
    }
}

impl Clone for Charge {
    fn clone(&self) -> Self {
        Self::new(&self.used, self.bytes)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// All charges are equal: a charge is not a part of the value that it counts the bytes of.
impl PartialEq for Charge {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Charge {}
