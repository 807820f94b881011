//! What is not to be shown, and the files that hold it.

use std::{cell::Cell, fmt, fs::File, io::Read, path::Path};

use callsheet_actors::Fault;
use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
    forward_to_deserialize_any,
};

/// The largest file of a password or another secret, in bytes.
pub const SECRET_FILE_BYTES_MAX: usize = 64 * 1024;
/// The shortest secret of the console, in bytes.
pub const CONSOLE_SECRET_BYTES_MIN: usize = 16;

/// What is said of anything else.
const NEITHER: &str = "neither a section nor a list stands here; write its keys, or its values, one by one";

/// A password, a token, or a URL with one. `Debug` does not show it, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether somebody knows the secret. The time that it takes says only how long the secret is.
    pub fn matches(&self, given: &str) -> bool {
        let (known, given) = (self.0.as_bytes(), given.as_bytes());
        // Each byte is looked at, whatever those before it were.
        let differ = known.iter().zip(given).fold(0, |differ, (one, other)| differ | (one ^ other));
        known.len() == given.len() && std::hint::black_box(differ) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // serde would quote a value of another type.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Given {
            Text(String),
            Other(IgnoredAny),
        }
        match Given::deserialize(deserializer)? {
            Given::Text(text) => Ok(Self(text)),
            Given::Other(IgnoredAny) => Err(D::Error::custom("a secret is a text; write it in quotes")),
        }
    }
}

/// Reads a section that may hold secrets: serde would quote a text that stands in its place.
pub(super) fn section<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    T::deserialize(Unquoted(deserializer))
}

/// Reads a list of secrets, likewise.
pub(super) fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Secret>>, D::Error> {
    struct List(Vec<Secret>);

    impl<'de> Deserialize<'de> for List {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Vec::deserialize(Unquoted(deserializer)).map(Self)
        }
    }

    Ok(Option::<List>::deserialize(deserializer)?.map(|List(secrets)| secrets))
}

/// A section or a list. Of what stands in its place the error says only that it is neither.
struct Unquoted<T>(T);

/// Notes that there is a section or a list: what is wrong is within it.
struct Noting<'a, V> {
    visitor: V,
    is_there: &'a Cell<bool>,
}

impl<D> Unquoted<D> {
    fn visit<V, T, E: Error>(
        self,
        visitor: V,
        visit: impl FnOnce(D, Noting<'_, V>) -> Result<T, E>,
    ) -> Result<T, E> {
        let is_there = Cell::new(false);
        let visited = visit(self.0, Noting { visitor, is_there: &is_there });
        visited.map_err(|error| if is_there.get() { error } else { E::custom(NEITHER) })
    }
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Unquoted<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.visit(visitor, |inner, visitor| inner.deserialize_any(visitor))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.visit(visitor, |inner, visitor| inner.deserialize_seq(visitor))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.visit(visitor, |inner, visitor| inner.deserialize_struct(name, fields, visitor))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct option tuple tuple_struct map enum identifier ignored_any
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Noting<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.is_there.set(true);
        self.visitor.visit_map(map)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<V::Value, A::Error> {
        self.is_there.set(true);
        self.visitor.visit_seq(sequence)
    }
}

/// Reads the secret in a file. Line breaks at its end are left out.
pub(super) fn read_file(key: &str, path: &Path) -> Result<Secret, Fault> {
    let fault = |rule: &str, cure: &str| Fault::new(key, path.display().to_string(), rule, cure);
    let unreadable = |error| {
        fault(&format!("it is the path of a file that can be read: {error}"), "check the path and the rights")
    };
    // A pipe or a terminal would let it wait.
    if !path.metadata().map_err(unreadable)?.is_file() {
        return Err(fault("it is the path of a regular file", "name the file that holds the secret"));
    }
    let mut bytes = Vec::new();
    let bound = SECRET_FILE_BYTES_MAX as u64 + 1;
    File::open(path).map_err(unreadable)?.take(bound).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > SECRET_FILE_BYTES_MAX {
        let rule = format!("a file of a secret has at most {SECRET_FILE_BYTES_MAX} bytes");
        return Err(fault(&rule, "name the file that holds the secret alone"));
    }
    let text = String::from_utf8(bytes);
    let text = text.map_err(|_| fault("a secret is a text in UTF-8", "write it in plain characters"))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(fault("the file holds the secret, and is empty", "write the secret into it"));
    }
    Ok(Secret::new(text))
}
