//! `--filter`: an expression in CEL over the fields of a JSON object.

use cel::{Context, Program, Value};
use serde_json::Value as Json;

/// A condition on the JSON form of an event, a process, a port or an exit.
#[derive(Debug)]
pub(super) struct Expression {
    program: Program,
}

/// The fields of all objects, at their first level. An expression that names another one is a
/// mistake and would match nothing.
const FIELDS: [&str; 49] = [
    "after_exit_ns",
    "alive",
    "begins_after",
    "capabilities",
    "capability",
    "cause",
    "container",
    "containerd",
    "containers",
    "delivered",
    "ended",
    "epoch",
    "from",
    "grade",
    "holders",
    "holders_count",
    "ignored_settings",
    "k8s",
    "labels",
    "lost",
    "monotonic_ns",
    "network",
    "origin",
    "over_ns",
    "owners",
    "owners_count",
    "pid",
    "port",
    "process",
    "processes",
    "quiet_ns",
    "run_time_ns",
    "runtime",
    "schema_version",
    "seen",
    "seq",
    "shim",
    "source",
    "stage",
    "started",
    "status",
    "survivors",
    "survivors_count",
    "time",
    "times",
    "timestamp",
    "to",
    "type",
    "withheld",
];

impl Expression {
    /// Parses an expression, and checks the names of the fields in it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let program = Program::compile(text).map_err(|error| error.to_string())?;
        let references = program.references();
        let bound = variables_of_macros(text);
        let mut unknown: Vec<&str> = references
            .variables()
            .into_iter()
            .filter(|name| !FIELDS.contains(name) && !bound.contains(name))
            .collect();
        unknown.sort_unstable();
        match unknown.first() {
            Some(name) => Err(format!(
                "there is no field {name:?}; the fields are those of -o json: {}",
                FIELDS.join(", ")
            )),
            None => Ok(Self { program }),
        }
    }

    /// Whether an object meets the condition. A field that the object lacks makes it false.
    pub(super) fn matches(&self, object: &Json) -> bool {
        let mut context = Context::default();
        for field in FIELDS {
            if let Some(value) = object.get(field) {
                // Every JSON value is a value of CEL.
                let _ = context.add_variable(field, value.clone());
            }
        }
        matches!(self.program.execute(&context), Ok(Value::Bool(true)))
    }
}

/// The names that the macros of an expression give to the items of a list, such as `arg` in
/// `args.exists(arg, arg == "-v")`. The parser counts them among the variables.
fn variables_of_macros(text: &str) -> Vec<&str> {
    let calls = [".all(", ".exists(", ".exists_one(", ".map(", ".filter("];
    let after = calls.iter().flat_map(|call| text.split(call).skip(1));
    after.filter_map(|rest| Some(rest.split_once(',')?.0.trim())).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    fn is_match(expression: &str, object: &Json) -> bool {
        Expression::parse(expression).unwrap_or_else(|error| panic!("{error}")).matches(object)
    }

    /// Check conditions on texts, numbers and lists, and on fields that are absent.
    #[test]
    fn a_condition_is_checked_on_any_field() {
        let exit = json!({
            "type": "process.exit", "status": 7, "origin": "exec",
            "process": {"pid": 42, "command_args": ["make", "-j8"], "exit": {"code": 7}},
        });
        for expression in [
            "status != 0",
            "type == 'process.exit' && process.exit.code == 7",
            "process.command_args[0] == 'make'",
            "'-j8' in process.command_args",
            "type.startsWith('process.')",
            "origin in ['exec', 'init']",
            "has(process.exit) && !has(process.vpid)",
            "process.command_args.exists(arg, arg.startsWith('-j'))",
        ] {
            assert!(is_match(expression, &exit), "{expression}");
        }
        for expression in ["status == 0", "port.scope == 'wildcard'", "process.vpid > 1", "'text'"]
        {
            assert!(!is_match(expression, &exit), "{expression}");
        }
    }

    /// Check that a mistake is named.
    #[test]
    fn a_wrong_expression_is_refused() {
        for (expression, named) in [("proces.pid == 1", "proces"), ("status ==", ""), ("a b", "")] {
            let error = Expression::parse(expression).expect_err(expression);
            assert!(error.contains(named), "{error}");
        }
    }

    /// Check that every field of an event can be used, and that no other name is accepted.
    #[test]
    fn the_fields_are_those_of_the_schema() {
        let schema: Json =
            serde_json::from_str(include_str!("../../docs/schema/event.schema.json")).unwrap();
        let mut fields = BTreeSet::new();
        let mut objects = vec![&schema];
        while let Some(object) = objects.pop() {
            let properties = object.get("properties").and_then(Json::as_object);
            fields.extend(properties.into_iter().flatten().map(|(name, _)| name.as_str()));
            for group in ["anyOf", "oneOf", "allOf"] {
                objects.extend(object.get(group).and_then(Json::as_array).into_iter().flatten());
            }
        }
        // Those of `lookout exits` and `lookout execs`.
        fields.extend(["timestamp", "pid", "alive", "ended", "processes", "started", "times"]);
        assert_eq!(fields, FIELDS.into_iter().collect());
    }
}
