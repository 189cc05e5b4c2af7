//! The output formats of the commands that show containers: `-o`.

use std::str::FromStr;

/// How a command prints its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Format {
    /// A table that fits into the terminal.
    Table,
    /// A table with all columns, not cut.
    Wide,
    /// A JSON array.
    Json,
    /// One JSON object per line.
    Jsonl,
    /// One YAML document per row.
    #[cfg(feature = "expressions")]
    Yaml,
    /// A table of fields of the JSON object.
    Columns(Vec<CustomColumn>),
    /// The format of the first probes: one small JSON object per start.
    Probe,
}

/// A column of `-o custom-columns`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct CustomColumn {
    pub(in crate::cli) title: String,
    pub(in crate::cli) path: FieldPath,
}

/// The path of a field in a JSON object, such as `.process.pid` or `process.command_args[0]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct FieldPath(Vec<String>);

impl FieldPath {
    /// The value of the field; `None` if the object lacks it.
    pub(in crate::cli) fn of<'a>(
        &self,
        object: &'a serde_json::Value,
    ) -> Option<&'a serde_json::Value> {
        self.0.iter().try_fold(object, |value, step| match value {
            serde_json::Value::Array(items) => items.get(step.parse::<usize>().ok()?),
            value => value.get(step),
        })
    }
}

impl FromStr for FieldPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim_matches(['{', '}']);
        let steps: Vec<String> = text
            .strip_prefix('.')
            .unwrap_or(text)
            .split(['.', '['])
            .map(|step| step.trim_end_matches(']').to_owned())
            .collect();
        if steps.iter().any(String::is_empty) {
            return Err(format!("{text:?} is no path of a field, such as .process.pid"));
        }
        Ok(Self(steps))
    }
}

/// Parses the format of a list, or of a stream of rows.
pub(in crate::cli) fn parse_format(text: &str) -> Result<Format, String> {
    Ok(match text {
        "table" => Format::Table,
        "wide" => Format::Wide,
        "json" => Format::Json,
        "jsonl" => Format::Jsonl,
        #[cfg(feature = "expressions")]
        "yaml" => Format::Yaml,
        _ => match text.strip_prefix("custom-columns=") {
            Some(columns) => Format::Columns(parse_columns(columns)?),
            None => {
                return Err("the formats are table, wide, json, jsonl, yaml and \
                            custom-columns=TITLE:.field,…"
                    .to_owned());
            }
        },
    })
}

/// Parses a format of `lookout events`.
pub(in crate::cli) fn parse_event_format(text: &str) -> Result<Format, String> {
    match text {
        "probe" => Ok(Format::Probe),
        _ => parse_format(text).map_err(|error| error.replace("jsonl, ", "jsonl, probe, ")),
    }
}

fn parse_columns(text: &str) -> Result<Vec<CustomColumn>, String> {
    let column = |one: &str| {
        let (title, path) = one
            .split_once(':')
            .filter(|(title, _)| !title.is_empty())
            .ok_or_else(|| format!("{one:?} is no column, such as PID:.process.pid"))?;
        Ok(CustomColumn { title: title.to_owned(), path: path.parse()? })
    };
    text.split(',').map(column).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Check the paths of kubectl and plain ones, and that a wrong one is named.
    #[test]
    fn a_field_is_found_by_its_path() {
        let object = json!({"process": {"pid": 7, "command_args": ["sh", "-c"]}});
        for (path, value) in [
            (".process.pid", Some(json!(7))),
            ("process.pid", Some(json!(7))),
            ("{.process.command_args[1]}", Some(json!("-c"))),
            (".process.command_args[2]", None),
            (".port", None),
        ] {
            assert_eq!(path.parse::<FieldPath>().unwrap().of(&object), value.as_ref(), "{path}");
        }
        assert!(parse_format("custom-columns=PID").unwrap_err().contains("\"PID\""));
        assert!(parse_format("custom-columns=PID:.a..b").unwrap_err().contains(".a..b"));
        assert!(parse_format("xml").unwrap_err().contains("yaml"));
    }
}
