//! The fuzz target of the requests to the Task service.

use std::hint::black_box;

use containerd_shim_protos::{api, protobuf::Message as _};

use super::{
    container::{CreateRequest, ExecRequest},
    io,
    rootfs::{self, Mount},
};

/// Decodes a request. The first byte chooses its type.
pub(crate) fn requests(bytes: &[u8]) {
    let Some((kind, message)) = bytes.split_first() else { return };
    match kind {
        b'c' => create(message),
        b'e' => exec(message),
        // A `State` has only the two ids, of which every other request has some.
        _ => {
            let _ = black_box(api::StateRequest::parse_from_bytes(message));
        }
    }
}

fn create(message: &[u8]) {
    let Ok(request) = api::CreateTaskRequest::parse_from_bytes(message) else { return };
    let Ok(request) = CreateRequest::try_from(request) else { return };
    assert!(is_one_component(&request.id) && request.bundle.is_absolute());
    request.rootfs.iter().for_each(rootfs::fuzzing::options_of);
    for text in [&request.stdio.stdout, &request.stdio.stderr] {
        io::fuzzing::destination_of(text);
    }
}

fn exec(message: &[u8]) {
    let Ok(request) = api::ExecProcessRequest::parse_from_bytes(message) else { return };
    let Ok(request) = ExecRequest::try_from(request) else { return };
    assert!(is_one_component(&request.exec_id));
    assert!(serde_json::from_slice::<serde_json::Value>(&request.process).is_ok());
}

/// Ids become file names and arguments.
fn is_one_component(id: &str) -> bool {
    !id.is_empty() && !id.contains('/') && !id.starts_with(['.', '-'])
}

/// Parses the options of a mount: the type, the source and one option in each line.
pub(crate) fn mount_options(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines().map(str::to_owned);
    let (kind, source) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mount = Mount { kind, source, options: lines.collect(), ..Mount::default() };
    rootfs::fuzzing::options_of(&mount);
}

/// Parses the destination of an output.
pub(crate) fn stdio(bytes: &[u8]) {
    io::fuzzing::destination_of(&String::from_utf8_lossy(bytes));
}
