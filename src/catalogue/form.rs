//! Jobs as text: TOML or JSON.

use std::{collections::BTreeMap, fmt, path::Path};

use callsheet_actors::Fault;
use serde_json::{Map, Number, Value};
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TableLike};

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Toml,
}

impl Form {
    /// By the extension of a file.
    pub(super) fn of(path: &Path) -> Result<Self, Fault> {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        match &*extension {
            "json" => Ok(Self::Json),
            "toml" => Ok(Self::Toml),
            _ => {
                let (value, rule) =
                    (path.display().to_string(), "a file of jobs is TOML or JSON, by its extension");
                Err(Fault::new("catalogue", value, rule, "name a file that ends in .toml or .json"))
            }
        }
    }

    /// The jobs in a text.
    pub(super) fn entries(self, text: &str) -> Result<BTreeMap<String, Value>, String> {
        match self {
            Self::Json => Ok(map(text)?.into_iter().collect()),
            Self::Toml => {
                Ok(document(text)?.iter().map(|(job, item)| (job.to_owned(), json(item))).collect())
            }
        }
    }

    /// The text with another definition of a job, or without it.
    pub(super) fn edited(self, text: &str, job: &str, definition: Option<&Value>) -> Result<String, String> {
        match self {
            Self::Json => {
                let mut jobs = map(text)?;
                match definition {
                    Some(definition) => drop(jobs.insert(job.to_owned(), definition.clone())),
                    None => drop(jobs.remove(job)),
                }
                serde_json::to_string_pretty(&jobs).map(|text| text + "\n").map_err(|error| error.to_string())
            }
            Self::Toml => {
                let mut document = document(text)?;
                match definition {
                    Some(definition) => put(&mut document, job, definition)?,
                    None => drop(document.remove(job)),
                }
                Ok(document.to_string())
            }
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "JSON",
            Self::Toml => "TOML",
        })
    }
}

fn map(text: &str) -> Result<Map<String, Value>, String> {
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_str(text).map_err(|error| format!("it cannot be read: {error}"))
}

fn document(text: &str) -> Result<DocumentMut, String> {
    text.parse().map_err(|error: toml_edit::TomlError| {
        let read = error.span().and_then(|span| text.get(..span.start));
        let line = read.map_or(1, |read| read.matches('\n').count() + 1);
        format!("it cannot be read: line {line}: {}", error.message())
    })
}

/// Puts a job into a document. What stays as it is keeps its comments.
fn put(document: &mut DocumentMut, job: &str, definition: &Value) -> Result<(), String> {
    let Value::Object(fields) = definition else {
        document.insert(job, Item::Value(toml(definition, job)?));
        return Ok(());
    };
    if !document.get(job).is_some_and(Item::is_table_like) {
        document.insert(job, Item::Table(Table::new()));
    }
    let Some(table) = document.get_mut(job).and_then(Item::as_table_like_mut) else { return Ok(()) };
    set(table, fields, "")
}

/// Gives a table these fields. What stays as it is stays where it is.
fn set(table: &mut dyn TableLike, fields: &Map<String, Value>, path: &str) -> Result<(), String> {
    let gone = |(key, _): (&str, &Item)| (!fields.contains_key(key)).then(|| key.to_owned());
    let gone: Vec<_> = table.iter().filter_map(gone).collect();
    gone.iter().for_each(|key| drop(table.remove(key)));
    for (key, value) in fields {
        if table.get(key).is_some_and(|item| json(item) == *value) {
            continue;
        }
        let path = format!("{path}{key}");
        let within = table.get_mut(key).and_then(Item::as_table_like_mut);
        if let (Some(within), Value::Object(fields)) = (within, value) {
            set(within, fields, &format!("{path}."))?;
            continue;
        }
        let mut written = toml(value, &path)?;
        if let Some(standing) = table.get(key).and_then(Item::as_value) {
            *written.decor_mut() = standing.decor().clone();
        }
        table.insert(key, Item::Value(written));
    }
    Ok(())
}

fn json(item: &Item) -> Value {
    match item {
        Item::None => Value::Null,
        Item::Value(value) => json_of(value),
        Item::Table(table) => object(table),
        Item::ArrayOfTables(tables) => tables.iter().map(|table| object(table)).collect(),
    }
}

fn object(table: &dyn TableLike) -> Value {
    Value::Object(table.iter().map(|(key, item)| (key.to_owned(), json(item))).collect())
}

fn json_of(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(text) => text.value().clone().into(),
        toml_edit::Value::Integer(number) => (*number.value()).into(),
        // A float that JSON does not have is told by whoever reads the definition.
        toml_edit::Value::Float(number) => (*number.value()).into(),
        toml_edit::Value::Boolean(is) => (*is.value()).into(),
        toml_edit::Value::Datetime(at) => at.value().to_string().into(),
        toml_edit::Value::Array(array) => array.iter().map(json_of).collect(),
        toml_edit::Value::InlineTable(table) => object(table),
    }
}

/// A value at a path, which an error names.
fn toml(value: &Value, path: &str) -> Result<toml_edit::Value, String> {
    Ok(match value {
        Value::Null => {
            return Err(format!(
                "{path}: TOML has no null; leave it out, or keep the jobs in a file of JSON"
            ));
        }
        Value::Bool(is) => (*is).into(),
        Value::Number(number) => toml_number(number, path)?,
        Value::String(text) => text.as_str().into(),
        Value::Array(values) => {
            let values = values.iter().enumerate().map(|(nth, value)| toml(value, &format!("{path}[{nth}]")));
            toml_edit::Value::Array(values.collect::<Result<Array, _>>()?)
        }
        Value::Object(fields) => {
            let mut table = InlineTable::new();
            for (key, value) in fields {
                table.insert(key, toml(value, &format!("{path}.{key}"))?);
            }
            toml_edit::Value::InlineTable(table)
        }
    })
}

fn toml_number(number: &Number, path: &str) -> Result<toml_edit::Value, String> {
    match (number.as_i64(), number.as_f64()) {
        (Some(whole), _) => Ok(whole.into()),
        (None, Some(float)) if !number.is_u64() => Ok(float.into()),
        (None, _) => Err(format!("{path}: TOML has no number as large as {number}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TOML: &str = "# All of them.\n\n# For the board.\n[report]\nschedule = \"0 9 * * *\" # in the morning\n\
                        task = { name = \"send\", arguments = { to = \"alice\" } }\n\n[sweep]\nschedule = { every = \"1h\" }\n";

    #[test]
    fn an_edit_of_toml_keeps_comments_and_other_entries() {
        let entries = Form::Toml.entries(TOML).expect("it is right");
        let mut report = entries["report"].clone();
        report["task"]["arguments"]["to"] = json!("bob");
        report["schedule"] = json!("0 8 * * *");

        let edited = Form::Toml.edited(TOML, "report", Some(&report)).expect("it is right");
        assert_eq!(edited, TOML.replace("alice", "bob").replace("0 9", "0 8"));
        let added = Form::Toml.edited(TOML, "a.b é", Some(&json!({"enabled": false}))).expect("it is right");
        assert_eq!(added, format!("{TOML}\n[\"a.b é\"]\nenabled = false\n"));
        let gone = Form::Toml.edited(TOML, "sweep", None).expect("it is right");
        assert_eq!(gone, TOML.split("\n[sweep]").next().expect("what is before it"));
    }

    #[test]
    fn both_forms_answer_what_was_put() {
        let table = [
            json!({"a": [1, -1.5, "日 \"x\"", true, [], {"b": {}}], "c.d": {"e": "\n\u{7}"}}),
            json!({"float": 1.0, "least": i64::MIN, "most": i64::MAX}),
            json!(5),
            json!([{"a": 1}, 2]),
        ];
        for form in [Form::Json, Form::Toml] {
            let mut text = String::new();
            for (nth, value) in table.iter().enumerate() {
                text = form.edited(&text, &format!("job {nth}"), Some(value)).expect("it is right");
            }
            let read: Vec<_> = form.entries(&text).expect("it is right").into_values().collect();
            assert_eq!(read, table, "{form}: {text}");
        }
    }

    #[test]
    fn what_toml_has_not_is_refused_with_its_path() {
        let table = [
            (json!({"task": {"arguments": [1, null]}}), "task.arguments[1]: TOML has no null"),
            (json!({"task": {"arguments": u64::MAX}}), "task.arguments: TOML has no number as large as"),
        ];
        for (value, told) in table {
            let refused = Form::Toml.edited("", "job", Some(&value)).expect_err(told);
            assert!(refused.starts_with(told), "{refused}");
        }
    }

    #[test]
    fn a_text_that_cannot_be_read_is_told_with_its_line() {
        let of_toml = Form::Toml.entries("[a]\nb = 1\nb = 2\n").expect_err("twice");
        assert!(of_toml.starts_with("it cannot be read: line 3: "), "{of_toml}");
        let of_json = Form::Json.entries("{\n\"a\": }").expect_err("cut off");
        assert!(of_json.contains("line 2"), "{of_json}");
    }
}
