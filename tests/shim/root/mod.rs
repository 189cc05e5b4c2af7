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
mod daemon;
mod exec;
mod leaks;
mod oom;
mod pods;
mod ports;
mod restart;
mod run;
mod runtimes;
mod stdio;
mod watch;

use std::{fs, io::Read as _, path::Path, process::Command, time::Duration};

use crate::harness::{
    containerd::{Containerd, Program},
    deadline,
    tools::tool,
};

/// How long 128 MiB may take on a busy machine.
const OUTPUT: Duration = Duration::from_secs(30);

/// Bytes of which no two stretches are alike, so that a lost one shows wherever it was.
fn random(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .expect("the kernel has some");
    bytes
}

/// What `--mount` needs to give a container these bytes as `/data`.
fn bind_mount(containerd: &Containerd, bytes: &[u8]) -> String {
    let path = containerd.path("data");
    fs::write(&path, bytes).expect("our folder is writable");
    format!("type=bind,src={},dst=/data,options=bind:ro", path.display())
}

/// All that a command in a new container prints, read by the test itself: ctr stops to read when
/// the exit is told, whether it has read all or not (containerd#8326, containerd#13931).
fn output_of(containerd: &Containerd, id: &str, flags: &[&str], command: &str) -> Vec<u8> {
    let mount = mount_of_our_folder(containerd);
    let script = format!("{}; {command}", wait_for_us(id));
    containerd.detached(id, &[&["--mount", &mount], flags].concat(), &["sh", "-c", &script]);
    let output = read_to_its_end(containerd, id);
    containerd.wait_for_status(id, "STOPPED");
    containerd.remove(id);
    output
}

/// What `--mount` needs to give a container the test's folder as `/host`.
fn mount_of_our_folder(containerd: &Containerd) -> String {
    format!("type=bind,src={},dst=/host,options=bind:ro", containerd.path("").display())
}

/// Shell words that wait until [`read_to_its_end`] reads the process's output.
fn wait_for_us(process: &str) -> String {
    format!("until [ -e /host/go-{process} ]; do usleep 1000; done")
}

/// Reads the output of a process whose client has left, and lets it go.
fn read_to_its_end(containerd: &Containerd, process: &str) -> Vec<u8> {
    let folders = fs::read_dir("/run/containerd/fifo").expect("made by ctr").flatten();
    let mut fifos = folders.map(|folder| folder.path().join(format!("{process}-stdout")));
    let fifo = fifos.find(|fifo| fifo.exists()).expect("made by ctr");
    // The shim holds both ends: this waits for nobody.
    let mut fifo = fs::File::open(fifo).expect("made by ctr");
    fs::write(containerd.path(&format!("go-{process}")), "").expect("our folder is writable");
    deadline::finish_within(OUTPUT, "the output", move || {
        let mut output = Vec::new();
        fifo.read_to_end(&mut output).map(|_| output).expect("a fifo can be read")
    })
}

/// A copy of the image's tree that a test may write to.
fn copy_rootfs(to: &Path) {
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(tool("rootfs")).arg(to);
    Program::new(copy).run().success();
}
