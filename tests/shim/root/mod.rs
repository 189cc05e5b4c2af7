//! The shim under stock containerds, with real runtimes: what users of containerd will see. These
//! tests need root.

/// Makes of each function three tests, one under each containerd that the shim serves.
macro_rules! on_every_containerd {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use $crate::harness::containerd::Version;

            #[test]
            fn containerd_1_6() {
                super::$name(Version::V1_6);
            }

            #[test]
            fn containerd_1_7() {
                super::$name(Version::V1_7);
            }

            #[test]
            fn containerd_2_1() {
                super::$name(Version::V2_1);
            }
        }
    )*};
}

mod checkpoint;
mod control;
mod crash;
mod exec;
mod leaks;
mod oom;
mod pods;
mod restart;
mod run;
mod runtimes;
mod stdio;

use std::{fs, io::Read as _, path::Path, process::Command};

use crate::harness::{
    containerd::{Containerd, Program},
    tools::tool,
};

/// Bytes of which no two stretches are alike, so that a lost one shows wherever it was.
fn random(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    fs::File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes)).expect("the kernel has some");
    bytes
}

/// What `--mount` needs to give a container these bytes as `/data`.
fn bind_mount(containerd: &Containerd, bytes: &[u8]) -> String {
    let path = containerd.path("data");
    fs::write(&path, bytes).expect("our folder is writable");
    format!("type=bind,src={},dst=/data,options=rbind:ro", path.display())
}

/// A copy of the image's tree that a test may write to.
fn copy_rootfs(to: &Path) {
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(tool("rootfs")).arg(to);
    Program::new(copy).run().success();
}
