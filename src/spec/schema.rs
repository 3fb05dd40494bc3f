//! The key table as JSON Schema (draft 2020-12), for editors and other programs.
//!
//! A schema says what it can: names, types, choices, patterns. What only the whole project decides (is this option
//! declared, is that address free) is `rolecast check`'s matter.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::keys::{IMAGE, PROFILE};
use super::shape::{Absent, Keys, Shape, Text};

/// Schema of `images/NAME.toml`.
pub fn image() -> Value {
    schema(&IMAGE, "rolecast image file")
}

/// Schema of `profiles/NAME.toml`.
pub fn profile() -> Value {
    schema(&PROFILE, "rolecast profile")
}

fn schema(keys: &'static Keys, title: &str) -> Value {
    let mut definitions = Definitions::default();
    let mut root = definitions.table(keys);
    // Tables may hold tables that nobody has described yet; each pass describes what the last one found.
    while let Some(keys) = definitions.waiting.pop() {
        let table = definitions.table(keys);
        definitions.done.insert(keys.name.to_owned(), Value::Object(table));
    }
    root.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
    root.insert("title".to_owned(), title.into());
    root.insert("$defs".to_owned(), Value::Object(definitions.done.into_iter().collect()));
    Value::Object(root)
}

#[derive(Default)]
struct Definitions {
    done: BTreeMap<String, Value>,
    waiting: Vec<&'static Keys>,
}

impl Definitions {
    fn table(&mut self, keys: &'static Keys) -> Map<String, Value> {
        let mut properties = Map::new();
        for key in keys.keys {
            let mut value = self.shape(&key.shape);
            value.insert("description".to_owned(), key.doc.into());
            if let Absent::Default(default) = key.absent {
                value.insert("default".to_owned(), toml_value(default));
            }
            properties.insert(key.name.to_owned(), Value::Object(value));
        }
        let required = keys.keys.iter().filter(|key| key.absent == Absent::Required).map(|key| key.name);
        object(json!({
            "type": "object",
            "description": keys.doc,
            "properties": properties,
            "required": required.collect::<Vec<_>>(),
            "additionalProperties": false,
        }))
    }

    fn shape(&mut self, shape: &'static Shape) -> Map<String, Value> {
        let value = match shape {
            Shape::Text(kind) => return text(*kind),
            Shape::Choice(values) => json!({ "enum": values }),
            Shape::Boolean => json!({ "type": "boolean" }),
            Shape::Integer(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
            Shape::Scalar => json!({ "type": ["string", "integer", "boolean"] }),
            Shape::Ports => json!({ "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": 65535 },
                { "type": "string", "pattern": "^[0-9]{1,5}(-[0-9]{1,5})?$" },
            ] }),
            Shape::List(item, least, most) => {
                json!({ "type": "array", "items": self.shape(item), "minItems": least, "maxItems": most })
            }
            Shape::Table(keys) => {
                self.want(keys);
                json!({ "$ref": format!("#/$defs/{}", keys.name) })
            }
            Shape::Map(kind, inner) => {
                let names = text(*kind);
                let mut value = object(json!({ "type": "object", "additionalProperties": self.shape(inner) }));
                if names.contains_key("pattern") {
                    value.insert("propertyNames".to_owned(), Value::Object(names));
                }
                return value;
            }
        };
        object(value)
    }

    fn want(&mut self, keys: &'static Keys) {
        let known = self.done.contains_key(keys.name);
        if !known && !self.waiting.iter().any(|other| std::ptr::eq(*other, keys)) {
            self.waiting.push(keys);
        }
    }
}

fn text(kind: Text) -> Map<String, Value> {
    let mut value = object(json!({ "type": "string" }));
    if let Some(pattern) = kind.pattern() {
        value.insert("pattern".to_owned(), pattern.into());
    }
    value
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// A default of the key table, which is written in TOML.
fn toml_value(text: &str) -> Value {
    toml::from_str::<toml::Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut table| serde_json::to_value(table.remove("value")?).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every table of `keys`, once.
    fn tables(keys: &'static Keys) -> Vec<&'static Keys> {
        fn visit(shape: &'static Shape, found: &mut Vec<&'static Keys>) {
            match shape {
                Shape::Table(keys) => table(keys, found),
                Shape::List(inner, ..) | Shape::Map(_, inner) => visit(inner, found),
                _ => {}
            }
        }
        fn table(keys: &'static Keys, found: &mut Vec<&'static Keys>) {
            if !found.iter().any(|other| std::ptr::eq(*other, keys)) {
                found.push(keys);
                keys.keys.iter().for_each(|key| visit(&key.shape, found));
            }
        }
        let mut found = Vec::new();
        table(keys, &mut found);
        found
    }

    #[test]
    fn the_schema_has_every_key_of_the_table_and_no_other() {
        for (keys, schema) in [(&IMAGE, image()), (&PROFILE, profile())] {
            let tables = tables(keys);
            let names: BTreeSet<_> = tables.iter().map(|keys| keys.name).collect();
            assert_eq!(names.len(), tables.len(), "two tables have one name");
            for table in tables {
                let place = if std::ptr::eq(table, keys) { &schema } else { &schema["$defs"][table.name] };
                let written: BTreeSet<_> = table.keys.iter().map(|key| key.name.to_owned()).collect();
                let described: BTreeSet<_> = place["properties"].as_object().unwrap().keys().cloned().collect();
                assert_eq!(written, described, "{}", table.name);
                assert_eq!(place["additionalProperties"], false);
                assert!(table.keys.iter().all(|key| !place["properties"][key.name]["description"].is_null()));
            }
            assert_eq!(schema["$defs"].as_object().unwrap().len(), names.len() - 1);
        }
    }

    #[test]
    fn defaults_are_values_of_their_own_shape() {
        for keys in tables(&IMAGE).into_iter().chain(tables(&PROFILE)) {
            for key in keys.keys {
                let Absent::Default(default) = key.absent else { continue };
                let value = toml_value(default);
                let fits = match key.shape {
                    Shape::Text(kind) => value.as_str().is_some_and(|text| kind.accepts(text)),
                    Shape::Choice(values) => value.as_str().is_some_and(|text| values.contains(&text)),
                    Shape::Boolean => value.is_boolean(),
                    Shape::Integer(least, most) => {
                        value.as_i64().is_some_and(|number| (least..=most).contains(&number))
                    }
                    _ => false,
                };
                assert!(fits, "{}: {default}", key.name);
            }
        }
    }
}
