//! Records of sockets that wait as long as those of their process do: until it is known which exec
//! the process belongs to.

use super::Pipeline;
use crate::observe::record::{Record, TargetId};

/// How many sockets wait at most; more are reported at once, without the exec of their owners.
const WAITING_MAX: usize = 1024;

impl Pipeline {
    /// Whether a record of a socket must wait: the records of its process wait until the exec is
    /// known that the process belongs to, or the socket has not been reported as open yet.
    pub(super) fn socket_waits(&self, record: &Record) -> bool {
        match record {
            Record::Listen { target, by, .. } => {
                self.waiting_sockets.len() < WAITING_MAX && self.tracker.is_waiting(*target, *by)
            }
            Record::Unlisten { socket, .. } => self.is_waiting_socket(socket.cookie),
            _ => false,
        }
    }

    /// Whether the record of a socket waits.
    pub(super) fn is_waiting_socket(&self, cookie: u64) -> bool {
        self.waiting_sockets.iter().any(
            |waiting| matches!(waiting, Record::Listen { socket, .. } if socket.cookie == cookie),
        )
    }

    /// Processes the records of sockets that need not wait any longer, and all of a target that
    /// ends.
    pub(super) fn record_waiting_sockets(&mut self, ended: Option<TargetId>) {
        for record in std::mem::take(&mut self.waiting_sockets) {
            let (Record::Listen { target, .. } | Record::Unlisten { target, .. }) = &record else {
                continue;
            };
            if Some(*target) != ended && self.socket_waits(&record) {
                self.waiting_sockets.push(record);
            } else {
                self.record_socket(&record);
            }
        }
    }
}
