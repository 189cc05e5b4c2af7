//! The part of the fuzz targets that parses the destination of an output.

use super::destination::{Invocation, OutputDestination};

/// Parses a path or a URI. Every path must be absolute.
pub(crate) fn destination_of(text: &str) {
    match OutputDestination::parse(text) {
        Ok(OutputDestination::Nothing) => assert!(text.is_empty()),
        Ok(OutputDestination::Path(path) | OutputDestination::File(path)) => {
            assert!(path.is_absolute() && path.as_os_str().len() <= text.len());
        }
        Ok(OutputDestination::Logger(Invocation { program, args, env, .. })) => {
            assert!(program.is_absolute() && args.len() + env.len() <= 2 * text.len());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
