//! Generates docs/reference/events.md and the JSON Schema of events, from the types that are
//! written as JSON.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{as_code, markdown_table, one_line, page_head};
use crate::{
    client::json::Event,
    model::{EVENT_DOCS, EVENT_TYPES},
};

/// The name of the event that begins a stream, and when it is sent. The table of event types does
/// not have it.
const HELLO_TYPE: (&str, &str) = ("hello", "A stream begins. It has no `seq`.");

/// The JSON Schema of one line of `lookout events -o jsonl`.
fn event_schema() -> Value {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema: Value = generator.into_root_schema_for::<Event>().into();
    remove_null_types(&mut schema);
    for definition in schema["$defs"].as_object_mut().into_iter().flat_map(Map::values_mut) {
        definition["additionalProperties"] = false.into();
    }
    let types = EVENT_TYPES.into_iter().chain([HELLO_TYPE.0]);
    let rules: Vec<Value> = types.map(|name| fields_rule(name, &schema)).collect();
    schema["allOf"] = rules.into();
    schema
}

/// Removes `null` from the types of optional fields: an absent field is omitted and never written
/// as `null`.
fn remove_null_types(schema: &mut Value) {
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
            remove_null_key(property, part);
        }
    }
    schema["required"] = required;
    remove_null_key(schema, "required");
    remove_null_key(schema, "properties");
    for part in ["$defs", "properties"] {
        schema[part]
            .as_object_mut()
            .into_iter()
            .flat_map(Map::values_mut)
            .for_each(remove_null_types);
        remove_null_key(schema, part);
    }
    schema["anyOf"].as_array_mut().into_iter().flatten().for_each(remove_null_types);
    remove_null_key(schema, "anyOf");
}

/// Removes a key with the value `null`: indexing a JSON value by an absent key inserts it.
fn remove_null_key(schema: &mut Value, key: &str) {
    if schema[key].is_null()
        && let Some(object) = schema.as_object_mut()
    {
        object.remove(key);
    }
}

/// The rule of the schema for one event type: which fields such an event may have, and which it
/// must have.
fn fields_rule(name: &str, schema: &Value) -> Value {
    let has = |description: &Value| describes_type(description.as_str().unwrap_or_default(), name);
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

/// Whether events of the type `name` have a field with this description. A description names the
/// types or groups of types that have the field; if it names none, all types have it.
fn describes_type(description: &str, name: &str) -> bool {
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
    serde_json::to_string_pretty(&event_schema()).expect("a schema is JSON") + "\n"
}

pub(super) fn page() -> String {
    let types = EVENT_TYPES.iter().zip(EVENT_DOCS);
    let types = types.map(|(name, when)| [as_code(name), when.to_owned()]);
    let hello = [as_code(HELLO_TYPE.0), HELLO_TYPE.1.to_owned()];
    let schema = event_schema();
    let mut fields = BTreeMap::new();
    collect_fields(&schema, &schema, "", &mut fields);
    let fields =
        fields.into_iter().map(|(path, FieldRow { kind, text })| [as_code(&path), kind, text]);
    page_head("Events")
        + "The lines of `lookout events -o jsonl`. Their [JSON Schema](../schema/event.schema.json) \
           is generated from\nthe same table. An absent field does not apply or is unknown. What \
           the events mean is in\n[concepts](../concepts.md#events).\n\n## Types\n\n"
        + &markdown_table(["type", "when"], types.chain([hello]))
        + "\n## Fields\n\nA meaning that begins with a type of event says that only these events \
           have the field.\n\n"
        + &markdown_table(["field", "type", "meaning"], fields)
}

struct FieldRow {
    kind: String,
    text: String,
}

/// Adds the fields of the object that `schema` describes, and of the objects in it, by their dotted
/// paths.
fn collect_fields(
    root: &Value,
    schema: &Value,
    prefix: &str,
    fields: &mut BTreeMap<String, FieldRow>,
) {
    let schema = resolve_reference(root, schema);
    for part in ["allOf", "anyOf", "oneOf"] {
        for inner in schema[part].as_array().into_iter().flatten() {
            collect_fields(root, inner, prefix, fields);
        }
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        let text = property["description"].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "{path} has no documentation");
        let field = FieldRow { kind: json_type(root, property), text: one_line(text) };
        match fields.get_mut(&path) {
            // A field with another meaning for each of two event types: both meanings are shown.
            Some(known) if known.text != field.text => known.text += &format!(" {}", field.text),
            Some(_) => {}
            None => drop(fields.insert(path.clone(), field)),
        }
        collect_fields(root, property, &format!("{path}."), fields);
        collect_fields(root, &property["items"], &format!("{path}[]."), fields);
    }
}

/// The JSON type of a field, such as `array of string`.
fn json_type(root: &Value, schema: &Value) -> String {
    let schema = resolve_reference(root, schema);
    let names = match &schema["type"] {
        Value::String(name) => vec![name.as_str()],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => {
            let parts = schema["anyOf"].as_array().into_iter().flatten();
            let parts = parts.map(|part| json_type(root, part)).filter(|part| part != "null");
            return parts.collect::<Vec<_>>().join(" or ");
        }
    };
    let names = names.join(" or ");
    if names == "array" { format!("array of {}", json_type(root, &schema["items"])) } else { names }
}

/// The schema itself, or the definition that its `$ref` names.
fn resolve_reference<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str().and_then(|name| name.strip_prefix('#')) {
        Some(pointer) => root.pointer(pointer).expect("the schema is complete"),
        None => schema,
    }
}
