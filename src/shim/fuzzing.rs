//! The fuzz targets of what containerd gives to `start`, and of containerd's own binary.

use std::{fs::File, hint::black_box, io::Write as _, os::unix::fs::FileExt as _};

use super::{
    args::{Arguments, Verb},
    daemon::module_information,
    handshake::{Generation, Request},
};

/// Reads stdin. The command line precedes it, one argument in each line, up to an empty line.
pub(crate) fn bootstrap(bytes: &[u8]) {
    let end = bytes.windows(2).position(|window| window == b"\n\n").unwrap_or(bytes.len());
    let (line, stdin) = bytes.split_at(end);
    let arguments: Vec<String> = String::from_utf8_lossy(line).lines().map(str::to_owned).collect();
    let Ok(arguments) = Arguments::parse(&arguments) else { return };
    black_box(arguments.log_level());
    // With these verbs the names become parts of paths; the others use no names.
    if matches!(arguments.verb, Verb::Start | Verb::Delete | Verb::Serve) {
        assert!(!arguments.namespace.contains('/') && !arguments.id.contains('/'));
    }
    let Ok(request) = Request::read(stdin.get(2..).unwrap_or_default(), &arguments) else { return };
    assert!(!request.socket_dir.as_os_str().is_empty());
    for generation in [request.generation, Generation::Plain, Generation::Json(3)] {
        assert!(!generation.answer("unix:///s").is_empty());
    }
}

/// Reads the version in a program as in containerd's.
pub(crate) fn go_program(bytes: &[u8]) {
    thread_local! {
        static FILE: File = tempfile();
    }
    FILE.with(|file| {
        file.set_len(0).expect("it is a file in memory");
        file.write_all_at(bytes, 0).expect("it is a file in memory");
        (&*file).flush().expect("it is a file in memory");
        if let Ok(module) = module_information(file) {
            assert!(module.len() <= bytes.len());
        }
    });
}

fn tempfile() -> File {
    let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
    nix::sys::memfd::memfd_create("fuzz", flags).expect("Linux has it since 3.17").into()
}
