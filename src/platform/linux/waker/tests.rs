use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;

/// The waker for systems without eventfd(2). It works on Linux too, so it is tested here.
#[expect(unreachable_pub, reason = "public where it is the platform's own")]
#[path = "../../unsupported/waker.rs"]
mod unsupported;

fn is_readable(waker: &impl AsFd) -> bool {
    poll(&mut [PollFd::new(waker.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 1
}

// Any number of wakes is cleared at once, and neither call ever blocks.
macro_rules! is_readable_from_wake_to_clear {
    ($waker:ty) => {
        let waker = <$waker>::new().unwrap();
        waker.clear();
        assert!(!is_readable(&waker));
        for wakes in [1, 2, 100_000] {
            (0..wakes).for_each(|_| waker.wake());
            assert!(is_readable(&waker));
            waker.clear();
            assert!(!is_readable(&waker), "after {wakes} wakes");
        }
    };
}

/// Check the waker of Linux.
#[test]
fn an_eventfd_is_readable_from_wake_to_clear() {
    is_readable_from_wake_to_clear!(Waker);
}

/// Check the waker of other systems.
#[test]
fn a_pair_of_sockets_is_readable_from_wake_to_clear() {
    is_readable_from_wake_to_clear!(unsupported::Waker);
}
