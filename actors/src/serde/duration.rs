//! Durations as text, `"20s"` or `"1h 30m"`: for `#[serde(with = "…")]`.
//!
//! For fields of the types [`Duration`], `Option<Duration>` (`null` is `None`; add `#[serde(default)]` if the
//! key may be absent) and [`TimeDelta`] (which may be negative: `"-20s"`). They are read by
//! [`parse_duration`], and written without loss: `"1ms500us"`. All durations in the data of this crate are
//! written so.
//!
//! ```
//! use std::time::Duration;
//!
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! struct Settings {
//!     #[serde(with = "callsheet_actors::serde::duration")]
//!     drain: Duration,
//!     #[serde(with = "callsheet_actors::serde::duration", default)]
//!     timeout: Option<Duration>,
//! }
//!
//! let settings: Settings = serde_json::from_str(r#"{"drain": "1m 30s"}"#).unwrap();
//! assert_eq!(settings, Settings { drain: Duration::from_secs(90), timeout: None });
//! assert_eq!(serde_json::to_string(&settings).unwrap(), r#"{"drain":"1m30s","timeout":null}"#);
//!
//! let error = serde_json::from_str::<Settings>(r#"{"drain": "90"}"#).unwrap_err().to_string();
//! assert!(error.starts_with("duration \"90\": `90` has no unit; write whole numbers with the units"), "{error}");
//! ```

use std::{fmt, time::Duration};

use chrono::TimeDelta;
use serde::{Deserializer, Serializer, de};

use crate::core::duration::{DurationText, parse_duration};

/// Writes a duration as text.
///
/// # Errors
///
/// Those of the format.
pub fn serialize<T: AsText, S: Serializer>(duration: &T, serializer: S) -> Result<S::Ok, S::Error> {
    duration.write(serializer)
}

/// Reads a duration from text.
///
/// # Errors
///
/// What is wrong with the text, and what to write instead; those of the format.
pub fn deserialize<'de, T: AsText, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::read(deserializer)
}

/// A duration that is written as text.
pub trait AsText: Sized + sealed::Sealed {
    #[doc(hidden)]
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;

    #[doc(hidden)]
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for std::time::Duration {}
    impl Sealed for Option<std::time::Duration> {}
    impl Sealed for chrono::TimeDelta {}
}

impl AsText for Duration {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&DurationText(*self))
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text)
    }
}

impl AsText for Option<Duration> {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            // Marked as there, for formats that tell the two apart by it.
            Some(duration) => serializer.serialize_some(&DurationText(*duration)),
            None => serializer.serialize_none(),
        }
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_option(Optional)
    }
}

impl serde::Serialize for DurationText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl AsText for TimeDelta {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let sign = if *self < Self::zero() { "-" } else { "" };
        // A difference of chrono is less than 2^63 ms, whatever its sign.
        let length = DurationText(self.abs().to_std().unwrap_or(Duration::MAX));
        serializer.collect_str(&format_args!("{sign}{length}"))
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Signed)
    }
}

struct Text;

impl de::Visitor<'_> for Text {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration as text, such as \"20s\" or \"1h30m\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        parse_duration(text).map_err(E::custom)
    }
}

struct Optional;

impl<'de> de::Visitor<'de> for Optional {
    type Value = Option<Duration>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Text.expecting(f)
    }

    fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        Duration::read(deserializer).map(Some)
    }
}

struct Signed;

impl de::Visitor<'_> for Signed {
    type Value = TimeDelta;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a difference of time as text, such as \"20s\" or \"-1h30m\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<TimeDelta, E> {
        let (text, is_negative) = match text.trim_start().strip_prefix('-') {
            Some(length) => (length, true),
            None => (text, false),
        };
        let length = Text.visit_str::<E>(text)?;
        let length = TimeDelta::from_std(length).map_err(|_| E::custom("it is longer than 2⁶³ ms"))?;
        Ok(if is_negative { -length } else { length })
    }
}
