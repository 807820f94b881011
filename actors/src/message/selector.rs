//! Which jobs are meant.

use serde::{Deserialize, Serialize};

use crate::name::JobName;

/// Which jobs are meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Selector {
    /// The job of this name.
    Name(String),
    /// Every job with this tag.
    Tag(String),
    /// Every job.
    All,
}

impl From<&str> for Selector {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<String> for Selector {
    fn from(name: String) -> Self {
        Self::Name(name)
    }
}

impl From<&JobName> for Selector {
    fn from(name: &JobName) -> Self {
        Self::Name(name.as_str().to_owned())
    }
}
