//! Transactions of keys and values, as the servers take them and answer.

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::{
    agent::{Agents, Question},
    failure::{Failure, denied, not_understood},
};

/// One operation.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Operation {
    verb: &'static str,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flags: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
}

impl Operation {
    fn new(verb: &'static str, key: String) -> Self {
        Self { verb, key, value: None, flags: None, index: None, session: None }
    }

    /// Fails unless the key is there.
    pub(super) fn is_there(key: String) -> Self {
        Self::new("get", key)
    }

    /// Fails if the key is there.
    pub(super) fn is_absent(key: String) -> Self {
        Self::new("check-not-exists", key)
    }

    /// Fails unless the key was last written at this index.
    pub(super) fn is_of(key: String, index: u64) -> Self {
        Self { index: Some(index), ..Self::new("check-index", key) }
    }

    /// Reads all keys that begin with this. Never fails.
    pub(super) fn read(prefix: String) -> Self {
        Self::new("get-tree", prefix)
    }

    /// Writes a key that was last written at this index; 0: that is not there. `flags` are to be others than before:
    /// otherwise what is written again as it was is not written.
    pub(super) fn write(key: String, index: u64, value: &[u8], flags: u64) -> Self {
        let (value, flags, index) = (Some(STANDARD.encode(value)), Some(flags), Some(index));
        Self { value, flags, index, ..Self::new("cas", key) }
    }

    /// Writes a key, whatever it was.
    pub(super) fn overwrite(key: String, value: &[u8], flags: u64) -> Self {
        Self { value: Some(STANDARD.encode(value)), flags: Some(flags), ..Self::new("set", key) }
    }

    pub(super) fn delete(key: String) -> Self {
        Self::new("delete", key)
    }

    pub(super) fn delete_all(prefix: String) -> Self {
        Self::new("delete-tree", prefix)
    }

    /// Writes a key that is there as long as a session of Consul.
    pub(super) fn lock(key: String, session: &str) -> Self {
        Self { value: Some(String::new()), session: Some(session.to_owned()), ..Self::new("lock", key) }
    }
}

#[derive(Serialize)]
struct Wrapped<'a> {
    #[serde(rename = "KV")]
    operation: &'a Operation,
}

/// A key as it is.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    pub(super) key: String,
    value: Option<String>,
    pub(super) modify_index: u64,
    #[serde(default)]
    pub(super) session: Option<String>,
}

impl Entry {
    pub(super) fn bytes(&self) -> Result<Vec<u8>, Failure> {
        STANDARD.decode(self.value.as_deref().unwrap_or_default()).map_err(|_| not_understood("a read"))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Response {
    #[serde(default)]
    results: Option<Vec<Returned>>,
    #[serde(default)]
    errors: Option<Vec<Failed>>,
}

#[derive(Deserialize)]
struct Returned {
    #[serde(rename = "KV")]
    entry: Option<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failed {
    op_index: usize,
    what: String,
}

/// What became of a transaction.
pub(super) enum Done {
    /// All of it was done: the keys that it read and wrote.
    All(Vec<Entry>),
    /// Nothing was done, as these operations failed.
    Failed(Vec<usize>),
}

/// By what the servers say that a key is not as it is to be.
const CONFLICTS: [&str; 6] =
    ["index is stale", "index check", "check index", "doesn't exist", "\" exists", "lock is already held"];

/// How many bytes of a request an operation is, about.
pub(super) fn bytes_of(operation: &Operation) -> usize {
    /// Names of fields, numbers, and what stands between.
    const FRAME: usize = 160;
    // A character of a key may be written as six.
    FRAME + operation.key.len() * 6 + operation.value.as_ref().map_or(0, String::len)
}

/// Does all operations at one instant, or none.
pub(super) async fn transact(agents: &Agents, operations: &[Operation]) -> Result<Done, Failure> {
    let wrapped: Vec<_> = operations.iter().map(|operation| Wrapped { operation }).collect();
    let body = serde_json::to_vec(&wrapped)
        .map_err(|error| Failure::NotDone(format!("it cannot be written: {error}")))?;
    let writes = operations
        .iter()
        .any(|operation| !matches!(operation.verb, "get" | "get-tree" | "check-index" | "check-not-exists"));
    // One that only reads is answered by a leader that a majority has confirmed.
    let path = "txn?consistent".to_owned();
    let waits = std::time::Duration::ZERO;
    let answer = agents.ask(Question { method: Method::PUT, path, body: Some(&body), waits }).await?;
    // An answer to a write that is not understood leaves open what was done.
    let unclear = || if writes { Failure::Unknown } else { not_understood("a transaction") };
    let response: Response = serde_json::from_slice(&answer.body).map_err(|_| unclear())?;
    match answer.status {
        200 => {
            let results = response.results.unwrap_or_default();
            Ok(Done::All(results.into_iter().filter_map(|returned| returned.entry).collect()))
        }
        409 => {
            let errors = response.errors.unwrap_or_default();
            if let Some(other) =
                errors.iter().find(|error| !CONFLICTS.iter().any(|conflict| error.what.contains(conflict)))
            {
                return Err(of_operation(&other.what));
            }
            if errors.is_empty() {
                return Err(not_understood("a transaction"));
            }
            Ok(Done::Failed(errors.into_iter().map(|error| error.op_index).collect()))
        }
        _ => Err(not_understood("a transaction")),
    }
}

/// What the servers say of an operation that they do not do at all.
fn of_operation(what: &str) -> Failure {
    let what = callsheet_actors::adapter::one_line(what, 512);
    if what.contains("ermission denied") || what.contains("ACL") {
        return denied("the servers", &what);
    }
    Failure::NotDone(format!("the servers refuse it: {what}; check their version: 1.8 or newer"))
}
