//! Which events a subscriber wants.

use std::collections::BTreeSet;

use crate::event::{EventKind, EventName};

/// Which events a subscriber hears, and how many of them may wait for it. Unless told otherwise: every event.
///
/// It is looked at before an event is queued for anybody: events without a subscriber are not built.
/// The kinds and the jobs both have to match; several calls of the same sort add up.
///
/// ```
/// use callsheet_actors::{EventFilter, EventName};
///
/// let failures = [EventName::RunFailed, EventName::RunPanicked, EventName::RunTimedOut];
/// let _ = EventFilter::new().kinds(failures).job("invoices").prefix("mail.").buffer(10_000);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "a filter does nothing by itself"]
pub struct EventFilter {
    /// `None`: every kind.
    kinds: Option<Kinds>,
    /// `None`: events of all jobs, and those that are about none.
    jobs: Option<Jobs>,
    buffer: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Jobs {
    names: BTreeSet<String>,
    prefixes: Vec<String>,
}

impl EventFilter {
    /// Every event.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only these kinds; of none, no event at all.
    pub fn kinds(mut self, kinds: impl IntoIterator<Item = EventName>) -> Self {
        let set = self.kinds.get_or_insert_default();
        kinds.into_iter().for_each(|kind| set.insert(kind));
        self
    }

    /// Only events about this job. The job need not exist yet.
    pub fn job(self, name: impl Into<String>) -> Self {
        self.jobs([name])
    }

    /// Only events about these jobs; about none, no event at all.
    pub fn jobs(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.jobs.get_or_insert_default().names.extend(names.into_iter().map(Into::into));
        self
    }

    /// Only events about jobs whose names start with this.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.jobs.get_or_insert_default().prefixes.push(prefix.into());
        self
    }

    /// How many events may wait for the subscriber: 1 to
    /// [`SUBSCRIBER_EVENTS_MAX`](crate::SUBSCRIBER_EVENTS_MAX), the nearest of which is taken for any other
    /// number. When they are that many, or their texts are
    /// [`SUBSCRIBER_EVENT_BYTES_MAX`](crate::SUBSCRIBER_EVENT_BYTES_MAX) bytes, the newest is dropped, and
    /// counted. Default:
    /// [`EVENT_BUFFER_DEFAULT`](crate::EVENT_BUFFER_DEFAULT) for a stream,
    /// [`SUBSCRIBER_EVENTS_MAX`](crate::SUBSCRIBER_EVENTS_MAX) for an actor.
    pub fn buffer(mut self, events: usize) -> Self {
        self.buffer = Some(events);
        self
    }

    /// Whether the subscriber wants this event.
    pub(crate) fn admits(&self, kind: &EventKind) -> bool {
        let about = |jobs: &Jobs| kind.job().is_some_and(|job| jobs.contain(job.as_str()));
        self.wanted_kinds().contain(kind.name()) && self.jobs.as_ref().is_none_or(about)
    }

    pub(crate) fn wanted_kinds(&self) -> Kinds {
        self.kinds.unwrap_or(Kinds::ALL)
    }

    /// Whether the job of an event makes no difference.
    pub(crate) fn is_for_every_job(&self) -> bool {
        self.jobs.is_none()
    }

    pub(crate) fn buffer_or(&self, default: usize) -> usize {
        self.buffer.unwrap_or(default)
    }
}

impl Jobs {
    fn contain(&self, job: &str) -> bool {
        self.names.contains(job) || self.prefixes.iter().any(|prefix| job.starts_with(prefix))
    }
}

/// A set of kinds, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Kinds(pub(crate) u64);

const _: () = assert!(EventName::ALL.len() <= u64::BITS as usize, "a bit for each kind");

impl Kinds {
    pub(crate) const NONE: Self = Self(0);
    const ALL: Self = Self(u64::MAX);

    pub(crate) fn contain(self, kind: EventName) -> bool {
        self.0 & (1 << kind as u64) != 0
    }

    fn insert(&mut self, kind: EventName) {
        self.0 |= 1 << kind as u64;
    }
}
