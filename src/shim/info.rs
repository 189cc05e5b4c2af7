//! `-info`: the runtime's version and features, for `ctr plugins inspect-runtime` and the CRI
//! plugin.

use std::{
    io::{self, Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use containerd_shim_protos::{
    protobuf::{Message as _, MessageField, well_known_types::any::Any},
    types::introspection::{RuntimeInfo, RuntimeVersion},
};

use super::{NAME, Outcome, revision};
use crate::runc::{self, Options};

/// The largest number of bytes that are read from stdin.
const INPUT_MAX: u64 = 10 << 20;

/// Reads the runtime's options from stdin and prints a `RuntimeInfo`.
pub(super) fn run() -> Outcome {
    let mut stdin = Vec::new();
    io::stdin().take(INPUT_MAX).read_to_end(&mut stdin)?;
    let options = (!stdin.is_empty()).then(|| Any::parse_from_bytes(&stdin)).transpose()?;
    let name = Options::decode(options.as_ref())?.binary_name;
    let binary = match runc::find(&name) {
        Ok(binary) => Some(binary),
        // containerd also asks without options, before it knows which runtime a container will use.
        // If `runc` is not installed then, only its features are unknown.
        Err(_) if name.is_empty() => None,
        Err(error) => return Err(error.into()),
    };
    let info = RuntimeInfo {
        name: NAME.to_owned(),
        version: MessageField::some(RuntimeVersion {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: revision().to_owned(),
            ..Default::default()
        }),
        options: MessageField::from_option(options),
        features: MessageField::from_option(binary.as_deref().and_then(features)),
        ..Default::default()
    };
    io::stdout().write_all(&info.write_to_bytes()?)?;
    Ok(())
}

/// The output of `BINARY features`; `None` if the runtime has no such verb or prints no JSON
/// object.
fn features(binary: &Path) -> Option<Any> {
    let mut command = Command::new(binary);
    command.arg("features").stdin(Stdio::null()).stderr(Stdio::null());
    #[expect(clippy::disallowed_methods, reason = "this process serves nothing and has no reaper")]
    let output = command.output().ok()?;
    let is_json =
        serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&output.stdout)
            .is_ok();
    (output.status.success() && is_json).then(|| Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/features/Features".to_owned(),
        value: output.stdout,
        ..Default::default()
    })
}
