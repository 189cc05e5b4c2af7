//! The configuration: of the host, and of one container.
//!
//! ```text
//!  default → file → environment          the host's: Config::load
//!               └→ options → annotations   a container's: Config::for_container
//! ```
//!
//! Each value knows who set it. The host's configuration is trusted: a mistake in it is an error
//! that names key and file. A container's is not: a mistake in it costs a warning, never the
//! container.
//!
//! The shim and the command read it; nothing here logs, and nothing here watches the file.

mod file;
mod key;
mod settings;
#[cfg(test)]
mod tests;
mod value;

use std::{
    collections::{BTreeMap, HashMap},
    fmt, io,
    path::{Path, PathBuf},
};

pub use key::Key;
pub use settings::{Bus, Settings, SourceChoice};
pub use value::duration;

/// Where the host's configuration is, unless `LOOKOUT_CONFIG` names another.
pub const DEFAULT_FILE: &str = "/etc/lookout/config.toml";

/// What the keys of annotations begin with.
pub const ANNOTATION_PREFIX: &str = "io.lookout.";

/// The host's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    settings: Settings,
    /// Who set a key; those that are missing have their default.
    origins: BTreeMap<Key, Origin>,
}

/// Who set a value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody.
    Default,
    /// The file.
    File(PathBuf),
    /// The environment: the variable.
    Environment(String),
    /// The runtime options in containerd's configuration.
    Option,
    /// An annotation of the container.
    Annotation,
}

/// The host's configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file that was named is not there.
    #[error("{} does not exist", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("failed to read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not TOML, or not JSON.
    #[error("failed to parse {}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where, and what.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A key is wrong.
    #[error("{key} in {origin}: {reason}")]
    Key {
        /// The file or the variable.
        origin: String,
        /// The key as it was written.
        key: String,
        /// What is wrong.
        reason: Invalidity,
    },
}

/// What is wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalidity {
    /// There is no such key.
    #[error("no such key; there are {}", Key::ALL.map(Key::as_str).join(", "))]
    Unknown,
    /// A table or a date, where a text, a number, a switch or a list of texts belongs.
    #[error("not a value that any key takes")]
    NotAValue,
    /// The value.
    #[error("{value:?} is not {wanted}")]
    Value {
        /// As it was written.
        value: String,
        /// What it has to be.
        wanted: &'static str,
    },
    /// The host's configuration has locked it.
    #[error("locked by the host's configuration")]
    Locked,
    /// It is not for a container to set.
    #[error("only the host's configuration can set it")]
    NotYours,
}

/// What of a container's configuration was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The key as it was written, with the prefix of an annotation.
    pub key: String,
    /// Why it was not taken.
    pub reason: Invalidity,
}

impl Config {
    /// Reads the file and the environment.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the key and the file. A default file that is missing is none.
    pub fn load() -> Result<Self, ConfigError> {
        Self::load_with(None, |variable| std::env::var(variable).ok())
    }

    /// As [`load`](Self::load), from a file that was named, and with an environment.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the key and the file.
    pub fn load_with(
        named: Option<&Path>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let environment = |variable: &str| environment(variable).filter(|text| !text.is_empty());
        let named =
            named.map(Path::to_owned).or_else(|| environment("LOOKOUT_CONFIG").map(PathBuf::from));
        let path = named.clone().unwrap_or_else(|| DEFAULT_FILE.into());
        let mut config = Self::default();
        match file::read(&path)? {
            Some(entries) => entries.iter().try_for_each(|(name, text)| {
                config.set(name, text, Origin::File(path.clone())).map_err(|reason| {
                    ConfigError::Key {
                        origin: path.display().to_string(),
                        key: name.clone(),
                        reason,
                    }
                })
            })?,
            None if named.is_some() => return Err(ConfigError::Missing { path }),
            None => {}
        }
        for key in Key::ALL {
            let variable = key.variable();
            let Some(text) = environment(&variable) else { continue };
            config.set(key.as_str(), &text, Origin::Environment(variable.clone())).map_err(
                |reason| ConfigError::Key {
                    origin: format!("the environment ({variable})"),
                    key: key.to_string(),
                    reason,
                },
            )?;
        }
        Ok(config)
    }

    /// What holds for a container: the host's, then the runtime options, then its annotations. What
    /// of them cannot be taken leaves the value as it was, and is told. Patterns of `redact` add to
    /// the host's.
    #[must_use]
    pub fn for_container(
        &self,
        options: &[(String, String)],
        annotations: &HashMap<String, String>,
    ) -> (Settings, Vec<Warning>) {
        let mut container = self.clone();
        let mut warnings = Vec::new();
        for (name, text) in options {
            if let Err(reason) = container.set(name, text, Origin::Option) {
                warnings.push(Warning { key: name.clone(), reason });
            }
        }
        let mut annotations: Vec<_> = annotations
            .iter()
            .filter_map(|(name, text)| Some((name, name.strip_prefix(ANNOTATION_PREFIX)?, text)))
            .collect();
        annotations.sort_unstable();
        for (name, key, text) in annotations {
            if let Err(reason) = container.set(key, text, Origin::Annotation) {
                warnings.push(Warning { key: name.clone(), reason });
            }
        }
        (container.settings, warnings)
    }

    /// The host's settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Who set a key.
    #[must_use]
    pub fn origin(&self, key: Key) -> &Origin {
        self.origins.get(&key).unwrap_or(&Origin::Default)
    }

    fn set(&mut self, name: &str, text: &str, origin: Origin) -> Result<(), Invalidity> {
        let key = Key::from_name(name).ok_or(Invalidity::Unknown)?;
        let is_hosts = match origin {
            Origin::Default | Origin::File(_) | Origin::Environment(_) => true,
            Origin::Option if key.is_hosts() => return Err(Invalidity::NotYours),
            Origin::Annotation if !key.is_containers() => return Err(Invalidity::NotYours),
            Origin::Option | Origin::Annotation => false,
        };
        if !is_hosts && self.settings.locked.contains(&key) {
            return Err(Invalidity::Locked);
        }
        let set = if key == Key::Redact && !is_hosts {
            self.settings.add_patterns(text)
        } else {
            self.settings.set(key, text)
        };
        set.map_err(|_| Invalidity::Value { value: text.to_owned(), wanted: key.wanted() })?;
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
