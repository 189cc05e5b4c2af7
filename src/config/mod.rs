//! The configuration of the host and of one container.
//!
//! ```text
//!  default → file → environment          the host: Config::load
//!               └→ options → annotations   a container: Config::for_container
//! ```
//!
//! The origin of each value is recorded. The host's configuration is trusted, and a mistake in it
//! is an error that names key and file. A container's configuration is not trusted, and a mistake
//! in it is only reported as a warning: the container starts nevertheless.
//!
//! The shim, the daemon and the command read the configuration. This module does not log, and does
//! not watch the file.

mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod key;
mod pattern;
mod settings;
#[cfg(test)]
mod tests;
mod value;

use std::{
    collections::{BTreeMap, HashMap},
    fmt, io,
    path::{Path, PathBuf},
};

pub use key::{AnnotationUse, Key};
pub use pattern::compile_pattern;
use settings::{ANNOTATION_PATTERNS_MAX, InvalidValue, PATTERNS_MAX};
pub use settings::{AllowedKey, BusEvents, RedactMode, Settings, SourceChoice};
pub use value::parse_duration;

/// The file of the host's configuration, unless `LOOKOUT_CONFIG` names another file.
pub const DEFAULT_FILE: &str = "/etc/lookout/config.toml";

/// The prefix of the keys in the annotations of a container.
pub const ANNOTATION_PREFIX: &str = "io.lookout.";

/// The host's configuration: its settings, and the origin of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    settings: Settings,
    /// The origin of each key that is set. The other keys have their default.
    origins: BTreeMap<Key, Origin>,
}

/// Where the value of a key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// No configuration sets the key: the built-in default applies.
    Default,
    /// The configuration file with this path.
    File(PathBuf),
    /// The environment variable with this name.
    Environment(String),
    /// The runtime options in containerd's configuration.
    Option,
    /// An annotation of the container.
    Annotation,
}

/// Why the host's configuration is invalid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The configuration file that `--config` or `LOOKOUT_CONFIG` names does not exist.
    #[error("{} does not exist", path.display())]
    Missing {
        /// The path of the configuration file.
        path: PathBuf,
    },
    /// The configuration file cannot be read.
    #[error("failed to read {}", path.display())]
    Unreadable {
        /// The path of the configuration file.
        path: PathBuf,
        /// The error of the system call.
        #[source]
        source: io::Error,
    },
    /// The configuration file is not valid TOML, or not valid JSON.
    #[error("failed to parse {}", path.display())]
    Syntax {
        /// The path of the configuration file.
        path: PathBuf,
        /// The parser's error, with the position.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A key or its value is invalid.
    #[error("{key} in {origin}: {reason}")]
    Key {
        /// The path of the file, for a pattern with its line, or the name of the environment
        /// variable.
        origin: String,
        /// The key as it was written.
        key: String,
        /// The reason why the key or its value is invalid.
        reason: InvalidReason,
    },
}

/// The reason why a key or its value is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidReason {
    /// No key has this name.
    #[error("no such key; the keys are {}", Key::ALL.map(Key::as_str).join(", "))]
    Unknown,
    /// The value is a table, a date or a fraction. Values are strings, integers, booleans and lists
    /// of strings.
    #[error("not a string, an integer, a boolean or a list of strings")]
    NotAValue,
    /// The value is not valid for the key.
    #[error("{value:?} is not {expected}")]
    Value {
        /// The value as it was written.
        value: String,
        /// The values that the key accepts, from [`Key::expected_value`].
        expected: &'static str,
    },
    /// A pattern of `redact` in the host's configuration does not compile.
    #[error("the pattern {pattern:?} does not compile: {why}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// The host's configuration has locked the key.
    #[error("locked by the host's configuration")]
    Locked,
    /// The host's configuration does not allow containers to set the key.
    #[error("an annotation can set it only if the host's key `allow` has it")]
    NotAllowed,
    /// The container asks for a weaker redaction than the host's configuration has.
    #[error("the host's configuration is stricter")]
    Weaker,
    /// A container cannot set the key.
    #[error("only the host's configuration can set it")]
    HostOnly,
}

/// A setting of a container that was ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The key as it was written; the key of an annotation with its prefix.
    pub key: String,
    /// The reason why the setting was ignored.
    pub reason: InvalidReason,
}

impl Config {
    /// Reads the host's configuration from the file and the environment.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], which names the key and the file. It is not an error if the default file
    /// does not exist.
    pub fn load() -> Result<Self, ConfigError> {
        Self::load_with(None, |variable| std::env::var(variable).ok())
    }

    /// Reads the host's configuration as [`load`](Self::load) does, but with a given environment.
    /// If `named` is given, this file must exist, and `LOOKOUT_CONFIG` is ignored.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], which names the key and the file.
    pub fn load_with(
        named: Option<&Path>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let environment = |variable: &str| environment(variable).filter(|text| !text.is_empty());
        let named =
            named.map(Path::to_owned).or_else(|| environment("LOOKOUT_CONFIG").map(PathBuf::from));
        let path = named.clone().unwrap_or_else(|| DEFAULT_FILE.into());
        let mut config = Self::default();
        match file::read_entries(&path)? {
            Some(entries) => entries.iter().try_for_each(|(name, text)| {
                config.set_for_host(name, text, Origin::File(path.clone())).map_err(|reason| {
                    ConfigError::Key {
                        origin: file::origin(&path, &reason),
                        key: name.clone(),
                        reason,
                    }
                })
            })?,
            None if named.is_some() => return Err(ConfigError::Missing { path }),
            None => {}
        }
        for key in Key::ALL {
            let variable = key.environment_variable();
            let Some(text) = environment(&variable) else { continue };
            config
                .set_for_host(key.as_str(), &text, Origin::Environment(variable.clone()))
                .map_err(|reason| ConfigError::Key {
                    origin: format!("the environment ({variable})"),
                    key: key.to_string(),
                    reason,
                })?;
        }
        Ok(config)
    }

    /// The settings of a container in a containerd namespace. The runtime options override the
    /// settings of the host, and the container's annotations override both, as far as
    /// [`Key::annotation_use`] and the key `allow` let them. An invalid setting is ignored and
    /// reported as a warning. Patterns of `redact` are added to the patterns of the host, and
    /// `redact_mode` can only become stricter.
    #[must_use]
    pub fn for_container(
        &self,
        namespace: &str,
        options: &[(String, String)],
        annotations: &HashMap<String, String>,
    ) -> (Settings, Vec<Warning>) {
        let mut container = self.clone();
        let mut warnings = Vec::new();
        for (name, text) in options {
            if let Err(reason) = container.set_for_container(name, text, Origin::Option, "") {
                warnings.push(Warning { key: name.clone(), reason });
            }
        }
        let mut annotations: Vec<_> = annotations
            .iter()
            .filter_map(|(name, text)| Some((name, name.strip_prefix(ANNOTATION_PREFIX)?, text)))
            .collect();
        // The map of annotations has no fixed order, but the warnings must always be in the same
        // order.
        annotations.sort_unstable();
        for (name, key, text) in annotations {
            let set = container.set_for_container(key, text, Origin::Annotation, namespace);
            if let Err(reason) = set {
                warnings.push(Warning { key: name.clone(), reason });
            }
        }
        (container.settings, warnings)
    }

    /// The settings of the host, from the file and the environment.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The origin of a key's value.
    #[must_use]
    pub fn origin(&self, key: Key) -> &Origin {
        self.origins.get(&key).unwrap_or(&Origin::Default)
    }

    /// Sets a key of the host's configuration.
    fn set_for_host(
        &mut self,
        name: &str,
        text: &str,
        origin: Origin,
    ) -> Result<(), InvalidReason> {
        let key = Key::from_name(name).ok_or(InvalidReason::Unknown)?;
        let set = self.settings.set(key, text);
        self.note_origin(key, text, origin, set)?;
        // What the host wants to hide must not be visible because of a mistake. A container's
        // patterns are checked when they are used: a mistake in one does not affect the others.
        for pattern in self.settings.redact.iter().filter(|_| key == Key::Redact) {
            compile_pattern(pattern).map_err(|error| InvalidReason::Pattern {
                pattern: pattern.clone(),
                why: pattern::reason(&error),
            })?;
        }
        Ok(())
    }

    /// Sets a key of a container's configuration. `namespace` is the containerd namespace of the
    /// container, by which its annotations may be allowed.
    fn set_for_container(
        &mut self,
        name: &str,
        text: &str,
        origin: Origin,
        namespace: &str,
    ) -> Result<(), InvalidReason> {
        let key = Key::from_name(name).ok_or(InvalidReason::Unknown)?;
        let is_annotation = origin == Origin::Annotation;
        let may = if is_annotation { key.annotation_use() } else { AnnotationUse::Free };
        if key.is_host_only() || may == AnnotationUse::Never {
            return Err(InvalidReason::HostOnly);
        }
        if self.settings.locked.contains(&key) {
            return Err(InvalidReason::Locked);
        }
        let is_allowed = !is_annotation || self.settings.allows(key, namespace);
        if may == AnnotationUse::IfAllowed && !is_allowed {
            return Err(InvalidReason::NotAllowed);
        }
        let mode = self.settings.redact_mode;
        // Patterns are added and not set: a container must not be able to remove the host's
        // patterns.
        let set = if key == Key::Redact {
            let most = if is_allowed { PATTERNS_MAX } else { ANNOTATION_PATTERNS_MAX };
            self.settings.add_patterns(text, most)
        } else {
            self.settings.set(key, text)
        };
        // A container must not show what the host's redaction hides, so a weaker mode is taken
        // back.
        if self.settings.redact_mode < mode {
            self.settings.redact_mode = mode;
            return Err(InvalidReason::Weaker);
        }
        self.note_origin(key, text, origin, set)
    }

    /// Notes the origin of a key that was set. If `set` is an error, returns why the value is
    /// invalid.
    fn note_origin(
        &mut self,
        key: Key,
        text: &str,
        origin: Origin,
        set: Result<(), InvalidValue>,
    ) -> Result<(), InvalidReason> {
        set.map_err(|_| InvalidReason::Value {
            value: text.to_owned(),
            expected: key.expected_value(),
        })?;
        self.origins.insert(key, origin);
        Ok(())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File(path) => write!(formatter, "{}", path.display()),
            Self::Environment(variable) => formatter.write_str(variable),
            Self::Option => formatter.write_str("runtime option"),
            Self::Annotation => formatter.write_str("annotation"),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.key, self.reason)
    }
}
