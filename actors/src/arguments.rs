//! The arguments of a task, as data.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::{
    core::text::{Excerpt, Grouped, bounded},
    fault::Fault,
};

/// The most bytes of the arguments of a task, as JSON without white space: 64 KiB.
pub const ARGUMENTS_BYTES_MAX: usize = 65_536;

/// The most arrays and objects of the arguments of a task that are one in the other: 64. The JSON and the TOML of what
/// has them can still be read, which parsers refuse from about 80 and 128 on.
pub const ARGUMENTS_DEPTH_MAX: usize = 64;

/// So many bytes of what is wrong with arguments are kept.
const REASON_BYTES_MAX: usize = 1_024;

/// What the package `toml` calls the only field of a date, towards formats that have none.
const DATE_OF_TOML: &str = "$__toml_private_datetime";

/// The arguments of a [task](crate::Task): JSON, at most [`ARGUMENTS_BYTES_MAX`] bytes and [`ARGUMENTS_DEPTH_MAX`]
/// levels deep. Default: none, which is `null`.
///
/// As data they are that JSON itself. A date or a time of TOML is its text: `"2026-01-01T00:00:00Z"`. TOML has no
/// `null`: leave the key out. JSON has no NaN and no infinity: serde_json writes `null` for them.
///
/// Whoever may see a job sees them, and so does whoever has what is stored: leave secrets out, and name where they are.
///
/// ```
/// use callsheet_actors::Arguments;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let arguments = Arguments::of(&serde_json::json!({"to": "alice", "copies": 2}))?;
/// assert_eq!(arguments.as_str(), r#"{"copies":2,"to":"alice"}"#);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Arguments(Option<Arc<str>>);

impl Arguments {
    /// What a value is in JSON. Values that are the same JSON have equal texts.
    ///
    /// # Errors
    ///
    /// [`Fault`] if they are longer than [`ARGUMENTS_BYTES_MAX`] or deeper than [`ARGUMENTS_DEPTH_MAX`], or the value
    /// cannot be written as JSON.
    pub fn of(value: &(impl Serialize + ?Sized)) -> Result<Self, Fault> {
        serde_json::to_value(value).map_err(|error| unwritable(&error)).and_then(Self::from_json)
    }

    fn from_json(mut value: Value) -> Result<Self, Fault> {
        if value.is_null() {
            return Ok(Self(None));
        }
        if !write_dates(&mut value, ARGUMENTS_DEPTH_MAX) {
            let rule = format!(
                "the arguments of a task nest at most {ARGUMENTS_DEPTH_MAX} arrays and objects, these nest more"
            );
            let cure = "flatten them, or store what is deep elsewhere, and pass its name";
            return Err(Fault::new("arguments", bounded(&value, REASON_BYTES_MAX), rule, cure));
        }
        // An application may have switched on serde_json's `preserve_order`, which keeps them as they were written.
        value.sort_all_objects();
        let text = value.to_string();
        if text.len() > ARGUMENTS_BYTES_MAX {
            let max = Grouped(ARGUMENTS_BYTES_MAX as u64);
            let rule = format!(
                "the arguments of a task have at most {max} bytes as JSON, these have {}",
                Grouped(text.len() as u64)
            );
            let cure = "store what is large elsewhere, and pass its name";
            return Err(Fault::new("arguments", bounded(&text, REASON_BYTES_MAX), rule, cure));
        }
        Ok(Self(Some(text.into())))
    }

    /// The JSON, without white space, the keys of objects in the order of their bytes.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or("null")
    }

    /// There are none: they are `null`.
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// The JSON as a value.
    pub fn to_value(&self) -> Value {
        serde_json::from_str(self.as_str())
            .expect("invariant: it was written from JSON no deeper than is read")
    }

    /// As an operation quotes them.
    pub(crate) fn excerpt(&self) -> impl fmt::Display + '_ {
        Excerpt::value(self.as_str())
    }
}

/// Puts its text in the place of each date of TOML. Answers whether all is at most so many levels deep.
fn write_dates(value: &mut Value, levels: usize) -> bool {
    let inner_levels = levels.checked_sub(1);
    match value {
        Value::Array(values) => {
            inner_levels.is_some_and(|levels| values.iter_mut().all(|value| write_dates(value, levels)))
        }
        Value::Object(fields) => {
            if let (1, Some(Value::String(date))) = (fields.len(), fields.get_mut(DATE_OF_TOML)) {
                *value = Value::String(std::mem::take(date));
                return true;
            }
            inner_levels.is_some_and(|levels| fields.values_mut().all(|value| write_dates(value, levels)))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

fn unwritable(error: &serde_json::Error) -> Fault {
    let rule = format!("they cannot be written as JSON: {}", bounded(error, REASON_BYTES_MAX));
    Fault::new("arguments", "a value of the application", rule, "mend its `Serialize`")
}

impl fmt::Debug for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arguments({})", Excerpt::value(self.as_str()))
    }
}

impl fmt::Display for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Arguments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Arguments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::from_json(value).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_are_bounded_in_bytes() {
        let of = |bytes: usize| Arguments::of(&"x".repeat(bytes - 2));

        assert_eq!(
            of(ARGUMENTS_BYTES_MAX).map(|arguments| arguments.as_str().len()),
            Ok(ARGUMENTS_BYTES_MAX)
        );
        let refused = of(ARGUMENTS_BYTES_MAX + 1).expect_err("they are too long");
        let told = "the arguments of a task have at most 65,536 bytes as JSON, these have 65,537; store what is large \
                    elsewhere, and pass its name";
        assert!(refused.to_string().ends_with(told), "{refused}");
        assert!(refused.value.len() < 2 * REASON_BYTES_MAX, "the data does not hold them");
    }

    #[test]
    fn arguments_are_written_as_the_json_that_they_are() {
        for value in [json!({"to": "alice", "copies": [1, 2.5, null, true]}), json!(null), json!("text")] {
            let arguments = Arguments::of(&value).expect("they are short");

            assert_eq!(serde_json::to_value(&arguments).expect("it is JSON"), value);
            let read: Arguments = serde_json::from_value(value.clone()).expect("it was written");
            assert_eq!((read.is_none(), &read), (value.is_null(), &arguments));
        }
    }

    proptest! {
        /// serde_json alone reads some of its own texts as a neighbour of what was written.
        #[test]
        fn a_float_is_read_as_it_was_written(float in any::<f64>()) {
            prop_assume!(float.is_finite());
            let arguments = Arguments::of(&float).expect("it is short");

            prop_assert_eq!(arguments.to_value().as_f64().map(f64::to_bits), Some(float.to_bits()));
            let again: Arguments = serde_json::from_str(&serde_json::to_string(&arguments)?)?;
            prop_assert_eq!(again, arguments);
        }
    }

    #[test]
    fn what_is_no_json_is_a_fault() {
        let keys = std::collections::BTreeMap::from([((1, 2), 3)]);

        let refused = Arguments::of(&keys).expect_err("a key is no text").to_string();

        let told = "arguments \"a value of the application\": they cannot be written as JSON: key must be a string; \
                    mend its `Serialize`";
        assert_eq!(refused, told);
    }
}
