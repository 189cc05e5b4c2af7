//! The page and the JSON Schema of the events, from the types that are written as JSON.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{code, head, one_line, table};
use crate::{
    client::json::Event,
    model::{EVENT_DOCS, EVENT_TYPES},
};

const HELLO: (&str, &str) = ("hello", "A stream begins. It has no `seq`.");

/// The JSON Schema of one line of `lookout events -o jsonl`.
fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema: Value = generator.into_root_schema_for::<Event>().into();
    absent_is_not_null(&mut schema);
    for definition in schema["$defs"].as_object_mut().into_iter().flat_map(Map::values_mut) {
        definition["additionalProperties"] = false.into();
    }
    let types = EVENT_TYPES.into_iter().chain([HELLO.0]);
    let rules: Vec<Value> = types.map(|name| rule_of(name, &schema)).collect();
    schema["allOf"] = rules.into();
    schema
}

/// Removes `null` from the fields that may be absent: these are never written as `null`.
fn absent_is_not_null(schema: &mut Value) {
    let required = schema["required"].take();
    let is_required = |name: &String| {
        required.as_array().is_some_and(|names| names.iter().any(|one| one == name))
    };
    let properties = schema["properties"].as_object_mut().into_iter().flatten();
    for (_, property) in properties.filter(|(name, _)| !is_required(name)) {
        for part in ["type", "anyOf"] {
            if let Some(parts) = property[part].as_array_mut() {
                parts.retain(|part| part != "null" && part["type"] != "null");
            }
            clean(property, part);
        }
    }
    schema["required"] = required;
    clean(schema, "required");
    clean(schema, "properties");
    for part in ["$defs", "properties"] {
        schema[part]
            .as_object_mut()
            .into_iter()
            .flat_map(Map::values_mut)
            .for_each(absent_is_not_null);
        clean(schema, part);
    }
    schema["anyOf"].as_array_mut().into_iter().flatten().for_each(absent_is_not_null);
    clean(schema, "anyOf");
}

/// Removes a key that only an index has made.
fn clean(schema: &mut Value, key: &str) {
    if schema[key].is_null()
        && let Some(object) = schema.as_object_mut()
    {
        object.remove(key);
    }
}

/// Which fields an event of this type may have, and which it must have.
fn rule_of(name: &str, schema: &Value) -> Value {
    let has = |description: &Value| belongs_to(description.as_str().unwrap_or_default(), name);
    let variants = schema["anyOf"].as_array().into_iter().flatten();
    let all = [schema].into_iter().chain(variants.clone());
    let fields = all.flat_map(|part| part["properties"].as_object()).flatten();
    let names: Vec<&String> =
        fields.filter(|(_, field)| has(&field["description"])).map(|(name, _)| name).collect();
    let own = variants.filter(|it| it["required"].is_array()).find(|it| has(&it["description"]));
    let required = own.map_or_else(|| json!([]), |own| own["required"].clone());
    json!({
        "if": { "properties": { "type": { "const": name } } },
        "then": { "propertyNames": { "enum": names }, "required": required },
    })
}

/// Whether events of a type have a field, by its description: it says for each type or group of
/// types what the field means to them, or else all types have it.
fn belongs_to(description: &str, name: &str) -> bool {
    let types: Vec<&str> = description
        .split('`')
        .zip(description.split('`').skip(1))
        .filter(|(_, after)| after.starts_with(':'))
        .map(|(group, _)| group)
        .collect();
    let is_in = |group: &&str| match group.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => *group == name,
    };
    types.is_empty() || types.iter().any(is_in)
}

pub(super) fn schema_text() -> String {
    serde_json::to_string_pretty(&schema()).expect("a schema is JSON") + "\n"
}

pub(super) fn page() -> String {
    let types = EVENT_TYPES.iter().zip(EVENT_DOCS);
    let types = types.map(|(name, when)| [code(name), when.to_owned()]);
    let hello = [code(HELLO.0), HELLO.1.to_owned()];
    let schema = schema();
    let mut fields = BTreeMap::new();
    collect(&schema, &schema, "", &mut fields);
    let fields = fields.into_iter().map(|(path, Field { kind, text })| [code(&path), kind, text]);
    head("Events")
        + "The lines of `lookout events -o jsonl`. Their [JSON Schema](../schema/event.schema.json) \
           is generated from\nthe same table. An absent field does not apply or is unknown. What \
           the events mean is in\n[concepts](../concepts.md#events).\n\n## Types\n\n"
        + &table(["type", "when"], types.chain([hello]))
        + "\n## Fields\n\nA meaning that begins with a type of event says that only these events \
           have the field.\n\n"
        + &table(["field", "type", "meaning"], fields)
}

struct Field {
    kind: String,
    text: String,
}

/// Adds the fields of an object, and those of the objects in it, by their dotted paths.
fn collect(root: &Value, schema: &Value, prefix: &str, fields: &mut BTreeMap<String, Field>) {
    let schema = resolve(root, schema);
    for part in ["allOf", "anyOf", "oneOf"] {
        for inner in schema[part].as_array().into_iter().flatten() {
            collect(root, inner, prefix, fields);
        }
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        let text = property["description"].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "{path} has no documentation");
        let field = Field { kind: kind(root, property), text: one_line(text) };
        match fields.get_mut(&path) {
            // One name with a meaning for each of two types of event.
            Some(known) if known.text != field.text => known.text += &format!(" {}", field.text),
            Some(_) => {}
            None => drop(fields.insert(path.clone(), field)),
        }
        collect(root, property, &format!("{path}."), fields);
        collect(root, &property["items"], &format!("{path}[]."), fields);
    }
}

/// The type of a field, in the words of JSON.
fn kind(root: &Value, schema: &Value) -> String {
    let schema = resolve(root, schema);
    let names = match &schema["type"] {
        Value::String(name) => vec![name.as_str()],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => {
            let parts = schema["anyOf"].as_array().into_iter().flatten();
            let parts = parts.map(|part| kind(root, part)).filter(|part| part != "null");
            return parts.collect::<Vec<_>>().join(" or ");
        }
    };
    let names = names.join(" or ");
    if names == "array" { format!("array of {}", kind(root, &schema["items"])) } else { names }
}

/// The schema itself, or what its `$ref` names.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str().and_then(|name| name.strip_prefix('#')) {
        Some(pointer) => root.pointer(pointer).expect("the schema is complete"),
        None => schema,
    }
}
