//! Identities: checked when they are made, trusted afterwards.

use std::{
    borrow::Borrow,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use crate::error::Fault;

/// The longest name of a job, a lock key or a tag, in bytes.
pub const NAME_MAX: usize = 200;

/// Checks a name of a job, a lock key or a tag; `what` is the subject of the fault.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), Fault> {
    let fault = |rule: &str, cure: &str| Err(Fault::new(what, shortened(name), rule, cure));
    if name.is_empty() {
        return fault("a name is not empty", "give it at least one character");
    }
    if name.len() > NAME_MAX {
        let rule = format!("a name has at most {NAME_MAX} bytes, this one has {}", name.len());
        return fault(&rule, "shorten it");
    }
    if let Some((at, found)) = name.chars().enumerate().find(|(_, c)| c.is_control()) {
        let rule = format!("a name has no control characters, character {} is {found:?}", at + 1);
        return fault(&rule, "remove it");
    }
    if name.trim() != name {
        return fault("a name neither starts nor ends with white space", "trim it");
    }
    Ok(())
}

/// Enough of a value to recognise it in a message.
fn shortened(name: &str) -> String {
    const SHOWN: usize = 40;
    match name.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}…", &name[..cut]),
        None => name.to_owned(),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks a name.
            ///
            /// # Errors
            ///
            /// A [`Fault`] if it is empty, longer than [`NAME_MAX`] bytes, holds a control character, or
            /// starts or ends with white space.
            pub fn new(name: impl AsRef<str>) -> Result<Self, Fault> {
                check_name($what, name.as_ref()).map(|()| Self(name.as_ref().into()))
            }

            /// The name as it was written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

name! {
    /// The name of a job, unique within a scope.
    JobName, "job name"
}

name! {
    /// What a run excludes: two runs with the same key do not overlap. The job's name unless given.
    LockKey, "lock key"
}

name! {
    /// A label by which jobs are selected together.
    Tag, "tag"
}

name! {
    /// Who asked for something: the user whom the application has authenticated, or a program. Not a text that
    /// a client chooses.
    ///
    /// It stands in the events of what was asked for, in the [pause](crate::Pause) of a job and in the
    /// [origin](crate::Origin) of a run that somebody triggered.
    ///
    /// ```
    /// use callsheet_actors::{By, PauseJobs};
    ///
    /// # fn main() -> Result<(), callsheet_actors::Fault> {
    /// let pause = PauseJobs::new("report").by(By::new("alice")?);
    /// # let _ = pause;
    /// # Ok(())
    /// # }
    /// ```
    By, "by"
}

impl From<JobName> for String {
    fn from(name: JobName) -> Self {
        name.as_str().to_owned()
    }
}

impl From<&JobName> for String {
    fn from(name: &JobName) -> Self {
        name.as_str().to_owned()
    }
}

impl JobName {
    /// A name that was checked before it was stored.
    pub(crate) fn stored(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name, to be stored.
    pub(crate) fn to_stored(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl LockKey {
    /// A key that was checked before it was stored.
    pub(crate) fn stored(key: impl Into<Arc<str>>) -> Self {
        Self(key.into())
    }

    /// The key, to be stored.
    pub(crate) fn to_stored(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl From<&JobName> for LockKey {
    fn from(job: &JobName) -> Self {
        Self(job.0.clone())
    }
}

/// One start of one process: a random id, fresh each time, never the host's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(Uuid);

impl NodeId {
    /// A fresh random id.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The id with the given number, for tests that must repeat.
    pub fn numbered(number: u128) -> Self {
        Self(Uuid::from_u128(number))
    }

    /// The id as a UUID.
    pub fn as_uuid(&self) -> Uuid {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One run: a UUID of version 7, made by the node that asks for the claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(Uuid);

impl RunId {
    /// The id as a UUID.
    pub fn as_uuid(&self) -> Uuid {
        self.0
    }
}

impl RunId {
    /// When it was made, in whole milliseconds, by the clock that decides the ticks of its job.
    pub fn made_at(&self) -> DateTime<Utc> {
        let millis = i64::try_from(self.0.as_u128() >> 80).unwrap_or_default();
        DateTime::from_timestamp_millis(millis).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// The smallest id of a run that is made at an instant or later.
    pub fn first_at(instant: DateTime<Utc>) -> Self {
        // A part of a millisecond: what was made in it is as old as its start.
        let up = i64::from(!instant.timestamp_subsec_nanos().is_multiple_of(1_000_000));
        let millis = u128::from(u64::try_from(instant.timestamp_millis() + up).unwrap_or_default());
        Self(Uuid::from_u128(millis.min(MILLIS) << 80))
    }
}

impl From<Uuid> for RunId {
    /// The run that a store knows by this UUID.
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Makes the run ids of one node: no two alike, later ones greater within a millisecond of the clock.
///
/// It has a line of the processor's cache for itself: each step of a job counts, and what stands beside it is
/// read by all.
#[derive(Debug)]
#[repr(align(128))]
pub struct RunIds {
    /// Of the node, in the low bits.
    node: u128,
    count: AtomicU32,
}

/// Version 7 and the variant of RFC 9562.
const VERSION_AND_VARIANT: u128 = (7 << 76) | (0b10 << 62);
/// The milliseconds of an id.
const MILLIS: u128 = (1 << 48) - 1;

impl RunIds {
    /// The ids that `node` makes.
    pub fn of(node: NodeId) -> Self {
        let [.., u, v, w, x, y, z] = node.as_uuid().into_bytes();
        let node = u64::from_be_bytes([0, 0, 0, u ^ v, w, x, y, z]);
        Self { node: node.into(), count: AtomicU32::new(0) }
    }

    /// The next id, stamped with the clock's reading.
    pub fn next(&self, now: DateTime<Utc>) -> RunId {
        // A count, not random bits: cheaper than a generator, and 2^32 runs of one node within one
        // millisecond do not happen.
        let count = u128::from(self.count.fetch_add(1, Ordering::Relaxed));
        let millis = u128::from(u64::try_from(now.timestamp_millis()).unwrap_or(0)) & MILLIS;
        // Twelve bits of the count before the variant, the others behind it, so that ids grow with it.
        let (high, middle, low) = (count >> 20, (count >> 16) & 0xf, count & 0xffff);
        let count = (high << 64) | (middle << 56) | (low << 40);
        RunId(Uuid::from_u128((millis << 80) | VERSION_AND_VARIANT | count | self.node))
    }
}

/// Reads a number from digits, or from a number.
struct Digits;

impl de::Visitor<'_> for Digits {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of 64 bits as text, such as \"42\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<u64, E> {
        Ok(number)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<u64, E> {
        u64::try_from(number).map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        ///
        /// As data it is a text of digits, `"42"`, and read from a number as well: some JSON parsers, those
        /// of browsers among them, keep no more than 53 bits of a number. Compare it as a number (`BigInt` in
        /// JavaScript), since `"9"` is not less than `"10"` as a text.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(pub u64);

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Digits).map(Self)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number! {
    /// A leadership period: the epoch that a leader won. It only grows; 0 is never granted.
    Term
}

number! {
    /// Grows with every claim of a lock key: a write guarded by an older token is refused.
    FencingToken
}

impl LockKey {
    /// The key of one of its slots, from 0: the first is the key itself. Names hold no control characters, so
    /// that no job can have the key of a slot.
    pub(crate) fn slot(&self, slot: u32) -> Self {
        if slot == 0 { self.clone() } else { Self(format!("{}\u{1f}{slot}", self.as_str()).into()) }
    }

    /// The key of which this is a slot, and which one.
    pub(crate) fn parts(&self) -> (Self, u32) {
        match self.as_str().split_once('\u{1f}') {
            Some((key, slot)) => (Self(key.into()), slot.parse().unwrap_or_default()),
            None => (self.clone(), 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_bad_name_is_refused_with_value_rule_and_cure() {
        let long = "é".repeat(101);
        let cases = [
            ("", r#"job name "": a name is not empty; give it at least one character"#.to_owned()),
            (
                &long,
                format!(
                    "job name \"{}…\": a name has at most 200 bytes, this one has 202; shorten it",
                    "é".repeat(40)
                ),
            ),
            (
                "a\u{7}b",
                r#"job name "a\u{7}b": a name has no control characters, character 2 is '\u{7}'; remove it"#
                    .to_owned(),
            ),
            (" a", r#"job name " a": a name neither starts nor ends with white space; trim it"#.to_owned()),
        ];
        for (name, message) in cases {
            assert_eq!(JobName::new(name).unwrap_err().to_string(), message);
        }
        assert_eq!(JobName::new("é".repeat(100)).unwrap().as_str().len(), NAME_MAX);
    }

    #[test]
    fn run_ids_of_one_node_differ_and_are_of_version_7() {
        let ids = RunIds::of(NodeId::random());
        let now = "2026-01-01T00:00:00Z".parse().unwrap();

        let made: HashSet<_> = (0..70_000).map(|_| ids.next(now)).collect();

        assert_eq!(made.len(), 70_000);
        assert!(made.iter().all(|id| id.as_uuid().get_version_num() == 7));
    }

    #[test]
    fn a_run_id_has_its_parts_where_the_layout_of_uuids_has_room_for_them() {
        let node = NodeId::numbered(0x0102_0304_0506);
        let ids = RunIds { count: AtomicU32::new(0x1234_5678), ..RunIds::of(node) };
        let now = DateTime::from_timestamp_millis(0x0192_3456_789a).unwrap();

        // 32 bits of the count around the variant: 123, 4, 5678.
        assert_eq!(ids.next(now).to_string(), "01923456-789a-7123-8456-780303040506");
    }

    #[test]
    fn run_ids_grow_within_a_millisecond() {
        let ids = RunIds::of(NodeId::random());
        let now = "2026-01-01T00:00:00Z".parse().unwrap();

        let made: Vec<_> = (0..70_000).map(|_| ids.next(now)).collect();

        assert!(made.is_sorted());
    }
}
