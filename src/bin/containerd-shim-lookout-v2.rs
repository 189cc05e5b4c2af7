//! `containerd-shim-lookout-v2`: the shim that containerd runs. See [`lookout::shim`].

use std::process::ExitCode;

fn main() -> ExitCode {
    lookout::shim::run(std::env::args().skip(1))
}
