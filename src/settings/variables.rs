//! The settings as variables of an environment. Their names come from the fields of [`Settings`]: there is no list of
//! them.

use std::{ffi::OsString, slice};

use callsheet_actors::Fault;
use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeSeed, Error, IntoDeserializer, MapAccess, Visitor,
        value::{SeqDeserializer, StrDeserializer},
    },
    forward_to_deserialize_any,
};

use super::Settings;

/// What the names of all variables begin with.
pub(super) const PREFIX: &str = "CALLSHEET";
/// What stands for a value that is not shown.
const NOT_SHOWN: &str = "(not shown)";

/// What a variable holds.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Reads all variables, and tells of each that it cannot read.
pub(super) fn read(lookup: Lookup<'_>) -> (Settings, Vec<Fault>) {
    let mut faults: Vec<Fault> = Vec::new();
    loop {
        let refused = |name: &str| faults.iter().any(|fault| fault.subject == name);
        let readable = |name: &str| lookup(name).filter(|value| !value.is_empty() && !refused(name));
        let whole = Variable { name: PREFIX.to_owned(), lookup: &readable };
        // serde stops at the first fault. So it begins again, without the variable that has it.
        match Settings::deserialize(whole) {
            Ok(settings) => return (settings, faults),
            Err(Refused(fault)) => {
                // One without a variable cannot be left out, and would come again.
                let is_last = fault.subject.is_empty() || refused(&fault.subject);
                faults.push(fault);
                if is_last {
                    return (Settings::default(), faults);
                }
            }
        }
    }
}

/// What is wrong with a variable.
#[derive(Debug)]
struct Refused(Fault);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Refused {}

impl Error for Refused {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        let (rule, cure) = message.split_once("; ").unwrap_or((&message, "correct it, or leave it out"));
        Self(Fault::new("", "", rule, cure))
    }
}

impl Refused {
    /// The same, of a variable, unless it is of one already.
    fn of(mut self, name: &str, text: &str) -> Self {
        if !self.0.subject.is_empty() {
            return self;
        }
        (self.0.subject, self.0.value) = (name.to_owned(), text.to_owned());
        if name.ends_with("_PORT") && text.starts_with("tcp://") {
            "write a number; Kubernetes sets this variable for a Service of that name, unless the pod has \
             `enableServiceLinks: false`"
                .clone_into(&mut self.0.cure);
        }
        self
    }
}

/// A section, or a variable: what is asked of it says which.
struct Variable<'a> {
    name: String,
    lookup: Lookup<'a>,
}

impl<'de> Deserializer<'de> for Variable<'_> {
    type Error = Refused;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_option(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_map(Section { section: self, fields: fields.iter(), field: "" })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let Some(value) = (self.lookup)(&self.name) else { return visitor.visit_none() };
        let text = value.into_string().map_err(|_| {
            Refused::custom("it is a text in UTF-8; write it in plain characters").of(&self.name, NOT_SHOWN)
        })?;
        visitor.visit_some(Text(&text))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The fields of a section, one by one.
struct Section<'a> {
    section: Variable<'a>,
    fields: slice::Iter<'static, &'static str>,
    field: &'static str,
}

impl<'de> MapAccess<'de> for Section<'_> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refused> {
        let Some(field) = self.fields.next() else { return Ok(None) };
        self.field = field;
        let key: StrDeserializer<'static, Refused> = (*field).into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        let Variable { name, lookup } = &self.section;
        let name = format!("{name}_{}", self.field.to_ascii_uppercase());
        seed.deserialize(Variable { name: name.clone(), lookup }).map_err(|refused| {
            let text = lookup(&name).and_then(|value| value.into_string().ok());
            refused.of(&name, &text.unwrap_or_default())
        })
    }
}

/// What a variable holds.
struct Text<'a>(&'a str);

macro_rules! numbers {
    ($($read:ident $visit:ident $number:ty),*) => {
        $(fn $read<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
            let number = self.0.trim().parse().map_err(|_| {
                let (min, max) = (<$number>::MIN, <$number>::MAX);
                Refused::custom(format_args!("it is a whole number from {min} to {max}; write it in digits"))
            })?;
            visitor.$visit(number)
        })*
    };
}

impl<'de> Deserializer<'de> for Text<'_> {
    type Error = Refused;

    numbers!(
        deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64
    );

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_str(self.0)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self.0 {
            "on" => visitor.visit_bool(true),
            "off" => visitor.visit_bool(false),
            _ => Err(Refused::custom("it is `on` or `off`; write one of the two, or leave it out")),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_seq(SeqDeserializer::new(self.0.split_whitespace()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let name: StrDeserializer<'_, Refused> = self.0.into_deserializer();
        visitor.visit_enum(name)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple tuple_struct map
        struct identifier ignored_any
    }
}
