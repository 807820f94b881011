//! Definitions as data.

mod canonical;
mod convert;

use std::{fmt, str::FromStr};

use callsheet_actors::{Fault, Faults, port::Schedule};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

pub(super) use self::canonical::identity_of;
#[cfg(test)]
use super::dst::{Fold, Gap};
use super::{cron::cron, definition::Definition, duration::shortened};

/// A JSON Schema (draft 2020-12) of [the form as data](super#as-data), for editors and for other languages.
///
/// It checks names, types and which keys may stand together, but not what the texts say: that is checked when
/// a definition is read.
pub const JSON_SCHEMA: &str = include_str!("schedule.schema.json");

/// When a job is due: a cron expression as text; or an object with exactly one kind (cron, every, random,
/// daily, weekly, monthly, at or any), and options beside it.
// The trait's functions are written by hand, those that are derived have the same names.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(
    test,
    schemars(rename = "Schedule", extend("type" = ["string", "object"], "oneOf" = tests::text_or_one_kind()))
)]
pub(super) struct ScheduleForm {
    /// A cron expression: five fields, six with seconds, seven with years; a macro; `@every 5m`. May start
    /// with `CRON_TZ=Zone`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "String"))]
    cron: Option<String>,
    /// A fixed period, such as `1h30m` or `500ms`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "String"))]
    every: Option<String>,
    /// Random intervals.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "RandomForm"))]
    random: Option<RandomForm>,
    /// Every nth day.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "DailyForm"))]
    daily: Option<DailyForm>,
    /// Days of every nth week.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "WeeklyForm"))]
    weekly: Option<WeeklyForm>,
    /// Days of every nth month.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "MonthlyForm"))]
    monthly: Option<MonthlyForm>,
    /// Instants, in RFC 3339 with their offsets.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Vec<String>", length(min = 1)))]
    at: Option<Vec<String>>,
    /// A union: the schedules of which any may fire.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Vec<ScheduleForm>", length(min = 1)))]
    any: Option<Vec<ScheduleForm>>,
    /// The identity of a schedule of the application, which is data for identities only.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(skip))]
    custom: Option<String>,
    /// Beside `every` only: an instant from which periods are counted.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "String", extend("format" = "date-time")))]
    anchored_at: Option<String>,
    /// Beside `every` only: the period counts from the end of the last run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    from_completion: bool,
    /// The IANA name of the time zone. Default: that of the schedule around it, or UTC.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "String"))]
    timezone: Option<String>,
    /// What becomes of times that the clocks skip.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "String", extend("enum" = tests::names(&Gap::ALL, Gap::name))))]
    gap: Option<String>,
    /// What becomes of times that the clocks repeat.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "String", extend("enum" = tests::names(&Fold::ALL, Fold::name))))]
    fold: Option<String>,
    /// Calendars: when it does not fire.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    except: Vec<CalendarForm>,
    /// It never fires before this instant.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "String", extend("format" = "date-time")))]
    starting_at: Option<String>,
    /// It never fires at or after this instant.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "String", extend("format" = "date-time")))]
    until: Option<String>,
    /// The longest delay of a fire time, such as `30s`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "String"))]
    jitter: Option<String>,
}

/// Random intervals.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `min` and `max`")]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Random"))]
pub(super) struct RandomForm {
    /// The shortest interval.
    min: String,
    /// The longest interval.
    max: String,
    /// What decides the fire times, instead of the job's name.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "String"))]
    seed: Option<String>,
}

/// Every nth day.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `every`, `at` or `anchored_at`")]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Daily"))]
pub(super) struct DailyForm {
    /// Only every nth day.
    #[serde(default = "once")]
    #[cfg_attr(test, schemars(range(min = 1, max = 36_525)))]
    every: u32,
    /// Times of the day, such as `09:30` or `18:00:15`. Default: `00:00`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    at: Vec<String>,
    /// The instant from whose day on days are counted.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "String", extend("format" = "date-time")))]
    anchored_at: Option<String>,
}

/// Days of every nth week.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `on`")]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Weekly"))]
pub(super) struct WeeklyForm {
    /// Only every nth week.
    #[serde(default = "once")]
    #[cfg_attr(test, schemars(range(min = 1, max = 5_217)))]
    every: u32,
    /// Days of the week, such as `mon`.
    #[cfg_attr(test, schemars(length(min = 1)))]
    on: Vec<String>,
    /// Times of the day, such as `09:30` or `18:00:15`. Default: `00:00`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    at: Vec<String>,
    /// The first day of a week. Default: `monday`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "String"))]
    week_start: Option<String>,
    /// The instant from whose week on weeks are counted.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "String", extend("format" = "date-time")))]
    anchored_at: Option<String>,
}

/// Days of every nth month.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `on`")]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Monthly"))]
pub(super) struct MonthlyForm {
    /// Only every nth month.
    #[serde(default = "once")]
    #[cfg_attr(test, schemars(range(min = 1, max = 1_200)))]
    every: u32,
    /// Days of the month: 1 to 31, or -1 (the last day) to -31.
    #[cfg_attr(test, schemars(length(min = 1), inner(range(min = -31, max = 31))))]
    on: Vec<i32>,
    /// Times of the day, such as `09:30` or `18:00:15`. Default: `00:00`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    at: Vec<String>,
    /// The instant from whose month on months are counted.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "String", extend("format" = "date-time")))]
    anchored_at: Option<String>,
}

/// A calendar: what a schedule leaves out.
#[derive(Debug, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a calendar: an object with `dates`, `ranges`, `weekdays`, `times` or `schedules`"
)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Calendar"))]
pub(super) struct CalendarForm {
    /// What descriptions show.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "String"))]
    name: Option<String>,
    /// The IANA name of the time zone of the dates and times. Default: that of the schedule.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "String"))]
    timezone: Option<String>,
    /// Whole days, such as `2026-12-25`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dates: Vec<String>,
    /// Whole days, from one date to another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ranges: Vec<RangeForm>,
    /// Days of every week, such as `sat`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    weekdays: Vec<String>,
    /// Times of every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    times: Vec<TimesForm>,
    /// Schedules whose fire times are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    schedules: Vec<ScheduleForm>,
}

/// Days from one date to another, both inclusive.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `first` and `last`")]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Range"))]
pub(super) struct RangeForm {
    /// The first day.
    first: String,
    /// The last day.
    last: String,
}

/// A time of every day, which may run over midnight.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `from` and `to`")]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Times"))]
pub(super) struct TimesForm {
    /// Inclusive.
    from: String,
    /// Exclusive.
    to: String,
}

/// What is written of a schedule of the application; or why it is not written.
type OfCustom = fn(&dyn Schedule) -> Result<String, String>;

fn once() -> u32 {
    1
}

/// A key that may be absent, but not null.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl Serialize for ScheduleForm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for ScheduleForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrKeys)
    }
}

/// Reads a cron expression from a text, and the rest from its keys.
struct TextOrKeys;

impl<'de> de::Visitor<'de> for TextOrKeys {
    type Value = ScheduleForm;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a schedule: a cron expression as text, or an object such as {\"every\": \"5m\"}")
    }

    fn visit_str<E: de::Error>(self, expression: &str) -> Result<ScheduleForm, E> {
        Ok(ScheduleForm { cron: Some(expression.to_owned()), ..ScheduleForm::default() })
    }

    fn visit_map<A: de::MapAccess<'de>>(self, keys: A) -> Result<ScheduleForm, A::Error> {
        ScheduleForm::deserialize(de::value::MapAccessDeserializer::new(keys))
    }
}

/// Writes [the form as data](super#as-data).
///
/// # Errors
///
/// A definition that is wrong is not written, and neither is a schedule of the application.
impl Serialize for Definition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.check().map_err(ser::Error::custom)?;
        let of_custom = |_: &dyn Schedule| {
            Err("a schedule of the application cannot be stored as data; use one of the kinds".into())
        };
        ScheduleForm::of(self, of_custom).map_err(ser::Error::custom)?.serialize(serializer)
    }
}

/// Reads [the form as data](super#as-data).
///
/// # Errors
///
/// The first key or type that is wrong, with its path; or else every fault of the definition, each with its
/// path, the value, the rule and the cure.
impl<'de> Deserialize<'de> for Definition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form: ScheduleForm =
            serde_path_to_error::deserialize(deserializer).map_err(|error| {
                match error.path().to_string().as_str() {
                    "." => error.into_inner(),
                    path => {
                        let path = path.to_owned();
                        de::Error::custom(format!("{path}: {}", error.into_inner()))
                    }
                }
            })?;
        let definition = form.definition().and_then(|definition| {
            definition.check().map_err(Faults::into_vec)?;
            Ok(definition)
        });
        definition.map_err(|faults| {
            let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
            de::Error::custom(lines.join("\n"))
        })
    }
}

/// Reads a cron expression, or the JSON of [the form as data](super#as-data), which starts with `{`.
///
/// ```
/// use callsheet::schedule::Definition;
///
/// let cron: Definition = "TZ=Europe/Lisbon 0 9 * * MON-FRI".parse().unwrap();
/// let json: Definition = r#"{"daily": {"at": ["09:00"]}, "timezone": "Europe/Lisbon"}"#.parse().unwrap();
///
/// let faults = r#"{"daily": {"at": ["09:00", "24:00"]}}"#.parse::<Definition>().unwrap_err();
/// assert_eq!(
///     faults.to_string(),
///     "daily.at[1] \"24:00\": a day ends before 24:00; write `00:00`, which begins the following day"
/// );
/// ```
impl FromStr for Definition {
    type Err = Faults;

    fn from_str(text: &str) -> Result<Self, Faults> {
        if !text.trim_start().starts_with('{') {
            let definition: Self = cron(text).into();
            definition.check()?;
            return Ok(definition);
        }
        let mut json = serde_json::Deserializer::from_str(text);
        let form: Result<ScheduleForm, _> = serde_path_to_error::deserialize(&mut json);
        let rest = json.end();
        let refused = |rule: String| {
            let cure = "write an object with one kind, for example `{\"every\": \"5m\"}`";
            Faults::from(Fault::new("schedule", shortened(text.trim()), rule, cure))
        };
        let form = form.map_err(|error| match error.path().to_string().as_str() {
            "." => refused(error.into_inner().to_string()),
            path => refused(format!("{path}: {}", error.inner())),
        })?;
        rest.map_err(|error| refused(error.to_string()))?;
        let definition = form
            .definition()
            .map_err(|faults| Faults::check(faults).expect_err("invariant: there is at least one fault"))?;
        definition.check()?;
        Ok(definition)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub(super) fn text_or_one_kind() -> Value {
        let kinds = ["cron", "every", "random", "daily", "weekly", "monthly", "at", "any"];
        let objects = kinds.map(|kind| json!({"type": "object", "required": [kind]}));
        [json!({"type": "string"})].into_iter().chain(objects).collect()
    }

    pub(super) fn names<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> Value {
        all.iter().map(|one| name(*one)).collect()
    }

    /// The file is made from the types: after a change of theirs, run this test with `WRITE_SCHEMA=1`.
    #[test]
    fn the_schema_is_that_of_the_types() {
        let schema = schemars::schema_for!(ScheduleForm).to_value();
        if std::env::var_os("WRITE_SCHEMA").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/schedule/schedule.schema.json");
            let written = serde_json::to_string_pretty(&schema).expect("it is JSON") + "\n";
            std::fs::write(path, written).expect("the file can be written");
            return;
        }

        // Not their texts: the order of keys is a feature of `serde_json`, which any dependency may switch on.
        let stands: Value = serde_json::from_str(JSON_SCHEMA).expect("it is JSON");
        assert_eq!(stands, schema, "run this test with WRITE_SCHEMA=1");
    }
}
