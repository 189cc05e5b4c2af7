use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;

/// The one of systems without eventfd(2) can be had here too.
#[expect(unreachable_pub, reason = "public where it is the system's own")]
#[path = "elsewhere.rs"]
mod elsewhere;

fn is_readable(bell: &impl AsFd) -> bool {
    poll(&mut [PollFd::new(bell.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 1
}

// A bell wakes from its first ring until it is stilled, that however many rings are one, and that
// neither a ring nor stilling ever waits.
macro_rules! wakes_until_it_is_stilled {
    ($bell:ty) => {
        let bell = <$bell>::new().unwrap();
        bell.still();
        assert!(!is_readable(&bell));
        for rings in [1, 2, 100_000] {
            (0..rings).for_each(|_| bell.ring());
            assert!(is_readable(&bell));
            bell.still();
            assert!(!is_readable(&bell), "after {rings} rings");
        }
    };
}

/// Check Linux's.
#[test]
fn an_eventfd_wakes_until_it_is_stilled() {
    wakes_until_it_is_stilled!(Bell);
}

/// Check the others'.
#[test]
fn a_pair_of_sockets_wakes_until_it_is_stilled() {
    wakes_until_it_is_stilled!(elsewhere::Bell);
}
