//! Reads the configuration file. It is JSON if its name ends in `.json`, and TOML otherwise. Each
//! value becomes the text that an environment variable would have.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{ConfigError, InvalidReason};

/// The most bytes that a configuration file may have. A larger file is an error, because a
/// configuration has a few lines.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads the keys and values of a configuration file; `None` if the file does not exist.
pub(super) fn read_entries(path: &Path) -> Result<Option<Vec<(String, String)>>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "the file is larger than 1 MiB",
        )));
    }
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    let parsed = if is_json { parse_json(&text) } else { parse_toml(&text) };
    parsed.map(Some).map_err(|error| match error {
        ParseError::Syntax(source) => ConfigError::Syntax { path: path.to_owned(), source },
        ParseError::Key(key) => ConfigError::Key {
            origin: path.display().to_string(),
            key,
            reason: InvalidReason::NotAValue,
        },
    })
}

/// Names a file, and the line of the pattern if `reason` is about one.
pub(super) fn origin(path: &Path, reason: &InvalidReason) -> String {
    let line = match reason {
        InvalidReason::Pattern { pattern, .. } => line_of(path, pattern),
        _ => None,
    };
    let path = path.display();
    line.map_or_else(|| path.to_string(), |line| format!("{path}, line {line}"))
}

/// The line of a pattern of `redact`, from 1; `None` if the file has changed. Reads the file again,
/// because the values of keys are kept without their positions.
fn line_of(path: &Path, pattern: &str) -> Option<usize> {
    let text = std::fs::read_to_string(path).ok()?;
    let at = match DeTable::parse(&text) {
        Ok(table) => {
            let value = table.get_ref().get("redact")?;
            let mut entries = value.get_ref().as_array().into_iter().flat_map(|array| array.iter());
            let is_it = |entry: &&Spanned<DeValue<'_>>| entry.get_ref().as_str() == Some(pattern);
            entries.find(is_it).unwrap_or(value).span().start
        }
        // JSON is not parsed with positions. The pattern is written with the usual escapes.
        Err(_) => text.find(&serde_json::to_string(pattern).ok()?)?,
    };
    Some(text.get(..at)?.matches('\n').count() + 1)
}

/// Why a configuration file could not be parsed.
pub(super) enum ParseError {
    Syntax(Box<dyn std::error::Error + Send + Sync>),
    /// The value of this key has a type that no key accepts, such as a table.
    Key(String),
}

pub(super) fn parse_toml(text: &str) -> Result<Vec<(String, String)>, ParseError> {
    let table: toml::Table = text.parse().map_err(|error| ParseError::Syntax(Box::new(error)))?;
    table
        .into_iter()
        .map(|(key, value)| match toml_value_text(&value) {
            Some(text) => Ok((key, text)),
            None => Err(ParseError::Key(key)),
        })
        .collect()
}

/// The text of a TOML value, as an environment variable would have it; `None` for a type that no
/// key accepts.
fn toml_value_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(switch) => Some(switch.to_string()),
        toml::Value::Array(entries) => {
            let texts = entries.iter().map(|entry| entry.as_str()).collect::<Option<Vec<_>>>()?;
            serde_json::to_string(&texts).ok()
        }
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

pub(super) fn parse_json(text: &str) -> Result<Vec<(String, String)>, ParseError> {
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(text).map_err(|error| ParseError::Syntax(Box::new(error)))?;
    object
        .into_iter()
        .map(|(key, value)| match json_value_text(&value) {
            Some(text) => Ok((key, text)),
            None => Err(ParseError::Key(key)),
        })
        .collect()
}

/// The text of a JSON value, as an environment variable would have it; `None` for a type that no
/// key accepts.
fn json_value_text(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        serde_json::Value::Bool(switch) => Some(switch.to_string()),
        serde_json::Value::Array(entries) if entries.iter().all(serde_json::Value::is_string) => {
            serde_json::to_string(entries).ok()
        }
        serde_json::Value::Null | serde_json::Value::Array(_) | serde_json::Value::Object(_) => {
            None
        }
    }
}
