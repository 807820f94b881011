//! What is not to be shown, and the files that hold it.

use std::{fmt, fs::File, io::Read, path::Path};

use callsheet_actors::Fault;
use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny},
};

/// The largest file of a password or another secret, in bytes.
pub const SECRET_FILE_BYTES_MAX: usize = 64 * 1024;
/// The shortest secret of the console, in bytes.
pub const CONSOLE_SECRET_BYTES_MIN: usize = 16;

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
