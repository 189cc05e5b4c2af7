//! The runtime options of a request: `containerd.runc.v1.Options`.
//!
//! They come in one of several messages. Clients that know runc send the options themselves.
//! containerd's CRI plugin sends `runtimeoptions.v1.Options`, which is TOML in a file or in the
//! message, to any runtime that is not named `io.containerd.runc.v2`. containerd 1.6 and 1.7 send
//! the messages of their oldest shim to such a runtime: see `legacy`.

use std::{ffi::OsString, io, path::PathBuf};

use containerd_shim_protos::{
    protobuf::{self, CodedInputStream, Message as _, well_known_types::any::Any},
    shim::oci,
};
use serde::{Deserialize, Serialize};

use crate::sys::regular_file;

mod legacy;

/// The largest size in bytes of a TOML file with options.
const TOML_MAX: u64 = 1 << 20;

/// The options of one container's runtime. The JSON names are those that containerd's own shims
/// write to `options.json`; a field with its default value is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Whether to pass `--no-pivot` to `create` and `restore`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_pivot_root: bool,
    /// Whether to pass `--no-new-keyring` to `create`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_new_keyring: bool,
    /// An existing cgroup that the shim itself joins.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub shim_cgroup: String,
    /// User id that owns the stdio pipes; 0 is root.
    #[serde(skip_serializing_if = "is_zero")]
    pub io_uid: u32,
    /// Group id that owns the stdio pipes; 0 is root.
    #[serde(skip_serializing_if = "is_zero")]
    pub io_gid: u32,
    /// Name or path of the runtime; empty means `runc`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub binary_name: String,
    /// Directory of the runtime's state; empty means `/run/containerd/runc`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub root: String,
    /// Whether to pass `--systemd-cgroup`, with every verb.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub systemd_cgroup: bool,
    /// Directory of a checkpoint's image, used if the request names no directory.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub criu_image_path: String,
    /// CRIU's working directory; empty means `work` in the bundle.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub criu_work_path: String,
    /// Keys and values of the table `[lookout]`, each value as text. They are the observer's
    /// settings for the container. This module does not interpret them.
    #[serde(skip)]
    pub lookout: Vec<(String, String)>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The options of a request could not be decoded.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The message has none of the supported types.
    #[error("unknown runtime options type {type_url:?}")]
    UnknownType {
        /// The type of the message, as received.
        type_url: String,
    },
    /// The message does not decode as its type.
    #[error("failed to decode runtime options of type {type_url}")]
    Decode {
        /// The type of the message, as received.
        type_url: String,
        /// The decoder's error, with the cause.
        #[source]
        source: protobuf::Error,
    },
    /// The TOML file could not be read.
    #[error("failed to read runtime options from {}", path.display())]
    Read {
        /// The path of the TOML file, as the client gave it.
        path: PathBuf,
        /// The error of the system call.
        #[source]
        source: io::Error,
    },
    /// The text is not valid TOML.
    #[error("failed to parse runtime options as TOML")]
    Toml(#[source] Box<toml::de::Error>),
    /// The TOML has a key that is not a runtime option.
    #[error("unknown runtime option {key:?}")]
    UnknownKey {
        /// The key as it is written in the TOML.
        key: String,
    },
    /// The value of a key in the TOML has the wrong type.
    #[error("runtime option {key:?} must be {expected}, not {found}")]
    WrongType {
        /// The key as it is written in the TOML.
        key: String,
        /// The type that the option has.
        expected: &'static str,
        /// The type of the value in the TOML.
        found: &'static str,
    },
}

impl Options {
    /// Decodes the options of a request. Returns the defaults if there is no message or if the
    /// message has no type.
    ///
    /// # Errors
    ///
    /// [`OptionsError`], which names the type, the file or the key at fault.
    pub fn decode(any: Option<&Any>) -> Result<Self, OptionsError> {
        let Some(any) = any.filter(|any| !any.type_url.is_empty()) else {
            return Ok(Self::default());
        };
        let decode = |source| OptionsError::Decode { type_url: any.type_url.clone(), source };
        match any.type_url.rsplit('/').next() {
            Some("containerd.runc.v1.Options") => {
                oci::Options::parse_from_bytes(&any.value).map(Self::from).map_err(decode)
            }
            Some(legacy::CREATE_OPTIONS) => legacy::create_options(&any.value).map_err(decode),
            Some(legacy::RUNC_OPTIONS) => legacy::runc_options(&any.value).map_err(decode),
            Some("runtimeoptions.v1.Options") => {
                let config = TomlConfig::parse(&any.value).map_err(decode)?;
                config.read().and_then(|text| Self::from_toml(&text))
            }
            _ => Err(OptionsError::UnknownType { type_url: any.type_url.clone() }),
        }
    }

    /// Reads options from TOML. Keys are accepted as containerd's `config.toml` writes them
    /// (`SystemdCgroup`) and as the JSON does (`systemd_cgroup`). A table `[lookout]` holds
    /// settings of the observer; its keys are not checked here.
    ///
    /// # Errors
    ///
    /// [`OptionsError`] for text that is not TOML, an unknown key or a value of the wrong type.
    pub fn from_toml(text: &str) -> Result<Self, OptionsError> {
        let table: toml::Table =
            text.parse().map_err(|error| OptionsError::Toml(Box::new(error)))?;
        let mut options = Self::default();
        for (key, value) in &table {
            let value = TomlValue { key, value };
            match key.to_ascii_lowercase().replace('_', "").as_str() {
                "nopivotroot" => options.no_pivot_root = value.boolean()?,
                "nonewkeyring" => options.no_new_keyring = value.boolean()?,
                "shimcgroup" => options.shim_cgroup = value.text()?,
                "iouid" => options.io_uid = value.number()?,
                "iogid" => options.io_gid = value.number()?,
                "binaryname" => options.binary_name = value.text()?,
                "root" => options.root = value.text()?,
                "systemdcgroup" => options.systemd_cgroup = value.boolean()?,
                "criuimagepath" => options.criu_image_path = value.text()?,
                "criuworkpath" => options.criu_work_path = value.text()?,
                // Options of other containerd releases, which a shim does not use. Refusing them
                // would make a valid containerd configuration fail.
                "criupath" | "taskapiaddress" | "taskapiversion" => {}
                "lookout" => options.lookout = value.pairs()?,
                _ => return Err(OptionsError::UnknownKey { key: key.clone() }),
            }
        }
        Ok(options)
    }
}

impl From<oci::Options> for Options {
    fn from(options: oci::Options) -> Self {
        Self {
            no_pivot_root: options.no_pivot_root,
            no_new_keyring: options.no_new_keyring,
            shim_cgroup: options.shim_cgroup,
            io_uid: options.io_uid,
            io_gid: options.io_gid,
            binary_name: options.binary_name,
            root: options.root,
            systemd_cgroup: options.systemd_cgroup,
            criu_image_path: options.criu_image_path,
            criu_work_path: options.criu_work_path,
            lookout: Vec::new(),
        }
    }
}

/// `runtimeoptions.v1.Options`, decoded by hand because containerd-shim-protos lacks it. The
/// message has three fields, of which two are needed.
#[derive(Default)]
struct TomlConfig {
    path: String,
    body: Vec<u8>,
}

impl TomlConfig {
    fn parse(bytes: &[u8]) -> protobuf::Result<Self> {
        const CONFIG_PATH: u32 = 2 << 3 | 2;
        const CONFIG_BODY: u32 = 3 << 3 | 2;
        let mut config = Self::default();
        let mut stream = CodedInputStream::from_bytes(bytes);
        while let Some(tag) = stream.read_raw_tag_or_eof()? {
            match tag {
                CONFIG_PATH => config.path = stream.read_string()?,
                CONFIG_BODY => config.body = stream.read_bytes()?,
                // Field 1 names the type of the TOML. It is skipped, because the keys identify the
                // options.
                _ => protobuf::rt::skip_field_for_tag(tag, &mut stream)?,
            }
        }
        Ok(config)
    }

    /// The TOML text: that of the file if the message names one, otherwise that in the message.
    fn read(&self) -> Result<String, OptionsError> {
        if self.path.is_empty() {
            return Ok(String::from_utf8_lossy(&self.body).into_owned());
        }
        let path = PathBuf::from(&self.path);
        match regular_file::read_linked(&path, TOML_MAX) {
            Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
            Err(source) => Err(OptionsError::Read { path, source }),
        }
    }
}

/// One key of the TOML with its value.
struct TomlValue<'a> {
    key: &'a str,
    value: &'a toml::Value,
}

impl TomlValue<'_> {
    fn boolean(&self) -> Result<bool, OptionsError> {
        self.value.as_bool().ok_or_else(|| self.wrong_type("a boolean"))
    }

    fn text(&self) -> Result<String, OptionsError> {
        self.value.as_str().map(str::to_owned).ok_or_else(|| self.wrong_type("a string"))
    }

    fn number(&self) -> Result<u32, OptionsError> {
        let number = self.value.as_integer().and_then(|number| u32::try_from(number).ok());
        number.ok_or_else(|| self.wrong_type("a number from 0 to 4294967295"))
    }

    fn pairs(&self) -> Result<Vec<(String, String)>, OptionsError> {
        let table = self.value.as_table().ok_or_else(|| self.wrong_type("a table"))?;
        Ok(table.iter().map(|(key, value)| (key.clone(), as_text(value))).collect())
    }

    fn wrong_type(&self, expected: &'static str) -> OptionsError {
        OptionsError::WrongType { key: self.key.to_owned(), expected, found: self.value.type_str() }
    }
}

/// Converts a value to text, in the form that the environment and annotations use: a list becomes a
/// JSON array.
fn as_text(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(is) => is.to_string(),
        toml::Value::Datetime(time) => time.to_string(),
        toml::Value::Array(list) => {
            serde_json::Value::from_iter(list.iter().map(as_text)).to_string()
        }
        toml::Value::Table(_) => String::new(),
    }
}

/// The options of one checkpoint: `containerd.runc.v1.CheckpointOptions`.
#[derive(Debug, Clone, Default)]
pub struct CheckpointOptions {
    message: oci::CheckpointOptions,
}

impl CheckpointOptions {
    /// Decodes the options of a request. Returns the defaults if there is no message or if the
    /// message has no type.
    ///
    /// # Errors
    ///
    /// [`OptionsError::UnknownType`] if the message has another type, [`OptionsError::Decode`] if
    /// it cannot be decoded.
    pub fn decode(any: Option<&Any>) -> Result<Self, OptionsError> {
        let Some(any) = any.filter(|any| !any.type_url.is_empty()) else {
            return Ok(Self::default());
        };
        let message = match any.type_url.rsplit('/').next() {
            Some("containerd.runc.v1.CheckpointOptions") => {
                oci::CheckpointOptions::parse_from_bytes(&any.value)
            }
            Some(legacy::CHECKPOINT_OPTIONS) => legacy::checkpoint_options(&any.value),
            _ => return Err(OptionsError::UnknownType { type_url: any.type_url.clone() }),
        };
        message
            .map(|message| Self { message })
            .map_err(|source| OptionsError::Decode { type_url: any.type_url.clone(), source })
    }

    /// The directory for the image; empty if the request names it.
    #[must_use]
    pub fn image_path(&self) -> &str {
        &self.message.image_path
    }

    /// CRIU's working directory; empty if the shim chooses it.
    #[must_use]
    pub fn work_path(&self) -> &str {
        &self.message.work_path
    }

    /// The flags of the verb `checkpoint` that correspond to the options.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let options = &self.message;
        let mut arguments = Vec::new();
        let flags = [
            (options.open_tcp, "--tcp-established"),
            (options.external_unix_sockets, "--ext-unix-sk"),
            (options.terminal, "--shell-job"),
            (options.file_locks, "--file-locks"),
        ];
        arguments.extend(flags.into_iter().filter(|(on, _)| *on).map(|(_, flag)| flag.into()));
        if !options.cgroups_mode.is_empty() {
            arguments
                .extend(["--manage-cgroups-mode".into(), OsString::from(&options.cgroups_mode)]);
        }
        for namespace in &options.empty_namespaces {
            arguments.extend(["--empty-ns".into(), OsString::from(namespace)]);
        }
        if !options.exit {
            arguments.push("--leave-running".into());
        }
        arguments
    }
}
