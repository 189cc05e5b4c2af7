//! The fuzz targets of runtime options, and of what a runtime writes.

use containerd_shim_protos::protobuf::well_known_types::any::Any;

use super::{
    CheckpointOptions, Options,
    capture::{KEPT_BYTES, Tail},
    log::last_error_in,
};

/// The types of messages with options, in the order of the first byte of an input.
const TYPES: &[&str] = &[
    "containerd.runc.v1.Options",
    "containerd.linux.runc.CreateOptions",
    "containerd.linux.runc.RuncOptions",
    "runtimeoptions.v1.Options",
    "containerd.runc.v1.CheckpointOptions",
    "containerd.linux.runc.CheckpointOptions",
    "type.googleapis.com/containerd.runc.v1.Options",
    "",
    "another.type",
];

/// Decodes options. The first byte chooses the type; a `t` is TOML without a message around it.
pub(crate) fn options(bytes: &[u8]) {
    let Some((format, value)) = bytes.split_first() else { return };
    if *format == b't' {
        let Ok(text) = str::from_utf8(value) else { return };
        return Options::from_toml(text).map_or((), |options| check(&options));
    }
    let Some(type_url) = TYPES.get(usize::from(format.wrapping_sub(b'0'))) else { return };
    let any = Any { type_url: (*type_url).into(), value: value.into(), ..Default::default() };
    if let Ok(options) = Options::decode(Some(&any)) {
        check(&options);
    }
    if let Ok(options) = CheckpointOptions::decode(Some(&any)) {
        let paths = options.image_path().len() + options.work_path().len();
        assert!(paths + options.arguments().len() <= bytes.len() + 8);
    }
}

/// Checks that `options.json` keeps the options. It never has the settings of the observer.
fn check(options: &Options) {
    let text = serde_json::to_vec(options).expect("it consists of text and numbers");
    let read: Options = serde_json::from_slice(&text).expect("it was written by us");
    assert_eq!(read, Options { lookout: Vec::new(), ..options.clone() });
}

/// Reads the log and the output of a runtime.
pub(crate) fn output(bytes: &[u8]) {
    if let Some(error) = last_error_in(bytes) {
        assert!(error.len() <= bytes.len() && error.trim() == error);
    }
    let mut tail = Tail::default();
    for part in bytes.split_inclusive(|byte| *byte == b'\n') {
        // As many bytes as a read may return.
        tail.push(&part.repeat(4096_usize.div_ceil(part.len()).min(64)));
    }
    // A character that is not UTF-8 becomes one of three bytes.
    assert!(tail.text().len() <= 3 * KEPT_BYTES + '…'.len_utf8());
}
