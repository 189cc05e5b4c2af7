//! Parses the strings that a client gives for its streams. Pure: does no I/O.
//!
//! containerd puts a path or a URI into the `stdout` and `stderr` of a request. The schemes are
//! those of its `docs/` on logging and of `createIO` in its runc shim. Paths in a URI are
//! percent-decoded; hosts and fragments are ignored, as in Go's `net/url`.

use std::{
    collections::HashSet,
    ffi::OsString,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

use super::IoError;

/// The destination of an output stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OutputDestination {
    /// No destination: the process gets `/dev/null`.
    Nothing,
    /// An existing fifo, or an existing file to append to. Never created.
    Path(PathBuf),
    /// A file (`file://`). If it is missing, it and its directories are created.
    File(PathBuf),
    /// A program that reads the output (`binary://`, `binary-v2://`).
    Logger(Invocation),
}

/// A logger's command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Invocation {
    /// The path of the program, absolute.
    pub(super) program: PathBuf,
    /// The other keys of the query, each followed by its value (empty without `=`), in the order of
    /// the URI.
    pub(super) args: Vec<OsString>,
    /// Environment variables: the keys of the query that begin with `env.`, without that prefix,
    /// and their values.
    pub(super) env: Vec<(OsString, OsString)>,
    /// Whether the logger must write a byte to descriptor 5 (`binary-v2`). If it closes the
    /// descriptor without writing a byte, its start has failed.
    pub(super) ready_byte_required: bool,
}

impl OutputDestination {
    /// Parses a path or a URI.
    ///
    /// # Errors
    ///
    /// [`IoError::UnknownScheme`] for an unsupported scheme, [`IoError::Relative`] for a relative
    /// path, [`IoError::BadEscape`] for an invalid percent-encoding.
    pub(super) fn parse(text: &str) -> Result<OutputDestination, IoError> {
        if text.is_empty() {
            return Ok(OutputDestination::Nothing);
        }
        let Some((scheme, rest)) = split_scheme(text) else {
            return absolute(PathBuf::from(text)).map(OutputDestination::Path);
        };
        match scheme {
            "fifo" => path_of(text, rest).map(OutputDestination::Path),
            "file" => path_of(text, rest).map(OutputDestination::File),
            "binary" | "binary-v2" => invocation(text, scheme, rest).map(OutputDestination::Logger),
            _ => Err(IoError::UnknownScheme { scheme: scheme.to_owned() }),
        }
    }
}

/// Returns `path`, or an error if it is relative, because a path must not depend on the shim's
/// working directory.
pub(super) fn absolute(path: PathBuf) -> Result<PathBuf, IoError> {
    match path.is_absolute() {
        true => Ok(path),
        false => Err(IoError::Relative { path }),
    }
}

/// Splits a URI into its scheme and the rest, by the grammar of RFC 3986. `None` for a path, even
/// if the path contains a colon.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let mut chars = scheme.chars();
    let starts_valid = chars.next().is_some_and(|first| first.is_ascii_alphabetic());
    let rest_valid = chars.all(|char| char.is_ascii_alphanumeric() || "+-.".contains(char));
    (starts_valid && rest_valid).then_some((scheme, rest))
}

/// The path of `[//HOST]PATH[?QUERY][#FRAGMENT]`.
fn path_of(uri: &str, rest: &str) -> Result<PathBuf, IoError> {
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let path = match rest.strip_prefix("//") {
        Some(rest) => rest.find('/').map_or("", |host_ends| &rest[host_ends..]),
        None => rest,
    };
    absolute(Path::new(&decoded(uri, path, Plus::Literal)?).to_owned())
}

/// The command line of a logger's URI.
fn invocation(uri: &str, scheme: &str, rest: &str) -> Result<Invocation, IoError> {
    let program = path_of(uri, rest)?;
    let rest = rest.split('#').next().unwrap_or_default();
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    let mut args = Vec::new();
    let mut env = Vec::new();
    // A set, because a client chooses how many keys there are.
    let mut seen = HashSet::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let key = decoded(uri, key, Plus::Space)?;
        // containerd's Go code reads the first value of each key, so a repeated key is ignored.
        if !seen.insert(key.clone()) {
            continue;
        }
        let value = decoded(uri, value, Plus::Space)?;
        match key.as_encoded_bytes().strip_prefix(b"env.") {
            Some(name) => env.push((OsString::from_vec(name.to_vec()), value)),
            None => args.extend([key, value]),
        }
    }
    Ok(Invocation { program, args, env, ready_byte_required: scheme == "binary-v2" })
}

/// The meaning of `+`: a literal `+` in a path, a space in a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plus {
    Literal,
    Space,
}

/// Percent-decodes a part of `uri`.
fn decoded(uri: &str, part: &str, plus: Plus) -> Result<OsString, IoError> {
    let mut bytes = part.bytes();
    let mut out = Vec::with_capacity(part.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                let code =
                    digit(bytes.next()).zip(digit(bytes.next())).map(|(high, low)| high * 16 + low);
                code.and_then(|code| u8::try_from(code).ok())
                    .ok_or_else(|| IoError::BadEscape { uri: uri.to_owned() })?
            }
            b'+' if plus == Plus::Space => b' ',
            byte => byte,
        });
    }
    Ok(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> OutputDestination {
        OutputDestination::parse(text).unwrap()
    }

    /// Check that a path needs no scheme, even a path that resembles a URI.
    #[test]
    fn a_plain_path_is_not_decoded() {
        assert_eq!(parse(""), OutputDestination::Nothing);
        assert_eq!(parse("/run/a:b%20+c"), OutputDestination::Path("/run/a:b%20+c".into()));
        assert_eq!(parse("fifo:///run/fifo"), OutputDestination::Path("/run/fifo".into()));
    }

    /// Check that hosts, queries and fragments are no part of a file's path.
    #[test]
    fn a_file_uri_is_its_decoded_path() {
        assert_eq!(
            parse("file:///var/log/a%20b+c"),
            OutputDestination::File("/var/log/a b+c".into())
        );
        assert_eq!(parse("file://host/log?x=y#z"), OutputDestination::File("/log".into()));
        assert_eq!(parse("file:/log"), OutputDestination::File("/log".into()));
    }

    /// Check that a logger's query becomes its arguments in order, and `env.` its environment.
    #[test]
    fn a_logger_uri_is_a_command_line() {
        let OutputDestination::Logger(logger) =
            parse("binary:///bin/log?id=a%2Fb+c&env.TZ=UTC&flag&id=again&&last=")
        else {
            panic!("not a logger");
        };
        assert_eq!(logger.program, Path::new("/bin/log"));
        assert_eq!(logger.args, ["id", "a/b c", "flag", "", "last", ""]);
        assert_eq!(logger.env, [("TZ".into(), "UTC".into())]);
        assert!(!logger.ready_byte_required);
        assert!(matches!(
            parse("binary-v2:///bin/log"),
            OutputDestination::Logger(Invocation { ready_byte_required: true, .. })
        ));
    }

    /// Check that an invalid string is refused with an error that names it.
    #[test]
    fn an_invalid_target_is_named_in_the_error() {
        let refusal = |text| OutputDestination::parse(text).unwrap_err().to_string();
        assert_eq!(refusal("journald:///x"), "unknown STDIO scheme journald");
        assert!(
            refusal("relative/path").contains("\"relative/path\" is not absolute"),
            "{}",
            refusal("relative/path")
        );
        assert!(refusal("file://").contains("not absolute"));
        assert!(refusal("file:///a%2").contains("file:///a%2"));
    }

    /// Check that the time to parse a URI does not grow with the square of its length: comparing
    /// each of these keys with all before it would take minutes.
    #[test]
    fn a_uri_may_have_very_many_keys() {
        let keys: String = (0..400_000).map(|key| format!("&{key}")).collect();
        let started = std::time::Instant::now();
        let OutputDestination::Logger(logger) = parse(&format!("binary:///l?{keys}")) else {
            panic!("it is a logger")
        };
        assert_eq!(logger.args.len(), 800_000);
        assert!(started.elapsed() < std::time::Duration::from_secs(60));
    }

    proptest::proptest! {
        /// Check that no string panics the parser.
        #[test]
        fn any_string_is_parsed_or_refused(text in ".*") {
            let _ = OutputDestination::parse(&text);
        }
    }
}
