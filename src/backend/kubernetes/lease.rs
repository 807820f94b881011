//! What stands in a `Lease`, and how it is changed: values only.

use std::time::Duration;

use callsheet_actors::{Term, port::Handover};
use chrono::{DateTime, Utc};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};

/// The annotation with what a leader leaves to the next one.
const HANDOVER: &str = "callsheet/handover";
/// The annotation with the version of the time zone data by which the leader goes.
const ZONE_DATA: &str = "callsheet/zone-data";
/// For how long a lease that was given up asks others to wait.
const RELEASED_SECONDS: i32 = 1;

/// What of a lease says who leads, and tells one extension from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// `None`: it was given up.
    pub(super) holder: Option<String>,
    /// In microseconds.
    pub(super) renewed: Option<i64>,
    pub(super) acquired: Option<i64>,
    pub(super) duration: Duration,
    pub(super) term: i32,
}

impl Record {
    pub(super) fn of(lease: &Lease) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        let micros = |time: Option<MicroTime>| time.map(|MicroTime(time)| time.as_microsecond());
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        Self {
            holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
            renewed: micros(spec.renew_time),
            acquired: micros(spec.acquire_time),
            duration: Duration::from_secs(seconds.unwrap_or_default()),
            term: spec.lease_transitions.unwrap_or_default(),
        }
    }
}

/// Who takes a lease, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taker<'a> {
    pub(super) name: &'a str,
    pub(super) identity: &'a str,
    pub(super) duration: Duration,
    pub(super) zone_data: &'a str,
    /// The greatest term that this node has seen: one that was deleted begins after it.
    pub(super) seen: i32,
}

/// The lease as its next holder writes it; `None` if its number of transitions cannot grow any more.
pub(super) fn taken(former: Option<&Lease>, taker: Taker<'_>, now: DateTime<Utc>) -> Option<Lease> {
    let mut lease = former.cloned().unwrap_or_else(|| Lease {
        metadata: ObjectMeta { name: Some(taker.name.to_owned()), ..ObjectMeta::default() },
        spec: None,
    });
    let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or_default();
    let term = transitions.max(taker.seen).max(0).checked_add(1)?;
    let seconds = i32::try_from(taker.duration.as_secs()).unwrap_or(i32::MAX);
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(taker.identity.to_owned()),
        lease_duration_seconds: Some(seconds),
        lease_transitions: Some(term),
        acquire_time: Some(time(now)),
        renew_time: Some(time(now)),
        ..lease.spec.unwrap_or_default()
    });
    annotate(&mut lease, ZONE_DATA, taker.zone_data.to_owned());
    Some(lease)
}

/// The lease as its holder extends it.
pub(super) fn renewed(lease: &Lease, now: DateTime<Utc>, handover: Option<String>) -> Lease {
    let mut lease = lease.clone();
    if let Some(spec) = &mut lease.spec {
        // Two extensions within a microsecond, or after the clock was set back, are two all the same.
        let after_last = spec.renew_time.as_ref().map(|MicroTime(last)| last.as_microsecond() + 1);
        let last = after_last.filter(|_| spec.renew_time.as_ref() == Some(&time(now)));
        spec.renew_time = Some(last.map_or_else(|| time(now), from_micros));
    }
    if let Some(handover) = handover {
        set_handover(&mut lease, handover);
    }
    lease
}

/// The lease as its holder gives it up.
pub(super) fn released(lease: &Lease, now: DateTime<Utc>) -> Lease {
    let mut lease = lease.clone();
    if let Some(spec) = &mut lease.spec {
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(RELEASED_SECONDS);
        spec.acquire_time = Some(time(now));
        spec.renew_time = Some(time(now));
    }
    lease
}

/// Whether a node holds a lease in a term.
pub(super) fn is_held(lease: &Lease, identity: &str, Term(term): Term) -> bool {
    let record = Record::of(lease);
    record.holder.as_deref() == Some(identity) && u64::try_from(record.term) == Ok(term)
}

/// What a leader left; the error says why it cannot be read.
pub(super) fn handover(lease: &Lease) -> Result<Option<Handover>, String> {
    let Some(text) = annotation(lease, HANDOVER) else { return Ok(None) };
    serde_json::from_str(text).map(Some).map_err(|error| {
        format!("the annotation {HANDOVER:?} of the lease cannot be read: {error}; remove it if it is not Callsheet's")
    })
}

/// As it stands in the annotation.
pub(super) fn handover_text(handover: &Handover) -> Result<String, String> {
    serde_json::to_string(handover).map_err(|error| error.to_string())
}

/// Sets what a leader left.
pub(super) fn set_handover(lease: &mut Lease, text: String) {
    annotate(lease, HANDOVER, text);
}

/// The version of the time zone data by which the holder goes, or went.
pub(super) fn zone_data(lease: &Lease) -> Option<&str> {
    annotation(lease, ZONE_DATA).filter(|version| !version.is_empty())
}

fn annotation<'a>(lease: &'a Lease, key: &str) -> Option<&'a str> {
    lease.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

fn annotate(lease: &mut Lease, key: &str, value: String) {
    lease.metadata.annotations.get_or_insert_default().insert(key.to_owned(), value);
}

fn time(instant: DateTime<Utc>) -> MicroTime {
    from_micros(instant.timestamp_micros())
}

fn from_micros(micros: i64) -> MicroTime {
    MicroTime(Timestamp::from_microsecond(micros).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-11-30T12:00:00Z".parse().expect("an instant")
    }

    fn taker(seen: i32) -> Taker<'static> {
        let duration = Duration::from_secs(15);
        Taker { name: "billing", identity: "pod_1", duration, zone_data: "2026f", seen }
    }

    #[test]
    fn each_holder_has_a_term_of_its_own_also_after_the_lease_was_deleted() {
        let first = taken(None, taker(0), now()).expect("it is taken");
        assert_eq!(Record::of(&first).term, 1);
        assert!(is_held(&first, "pod_1", Term(1)) && !is_held(&first, "pod_1", Term(2)));
        assert!(!is_held(&first, "pod_2", Term(1)));

        let again = taken(Some(&first), taker(1), now()).expect("it is taken");
        assert_eq!(Record::of(&again).term, 2, "though the holder is the same");
        assert_eq!(Record::of(&taken(None, taker(7), now()).expect("it is taken")).term, 8);
        assert!(taken(None, taker(i32::MAX), now()).is_none());
    }

    #[test]
    fn what_others_wrote_into_it_stays() {
        let mut lease = taken(None, taker(0), now()).expect("it is taken");
        annotate(&mut lease, "team", "billing".to_owned());
        lease.metadata.resource_version = Some("17".to_owned());

        let kept = released(&renewed(&lease, now(), Some("{}".to_owned())), now());

        assert_eq!(annotation(&kept, "team"), Some("billing"));
        assert_eq!((zone_data(&kept), annotation(&kept, HANDOVER)), (Some("2026f"), Some("{}")));
        assert_eq!(kept.metadata.resource_version.as_deref(), Some("17"));
        assert_eq!((Record::of(&kept).holder, Record::of(&kept).term), (None, 1));
    }

    #[test]
    fn each_extension_is_another_record() {
        let lease = taken(None, taker(0), now()).expect("it is taken");

        let renewed = renewed(&lease, now(), None);

        assert_ne!(Record::of(&renewed), Record::of(&lease));
    }

    #[test]
    fn a_handover_is_read_as_it_was_written_and_nonsense_is_named() {
        let mut lease = taken(None, taker(0), now()).expect("it is taken");
        assert_eq!(handover(&lease), Ok(None));
        let left = Handover {
            term: Term(3),
            decided_to: now(),
            behind: Vec::new(),
            starts_to: Some(now()),
            said: Default::default(),
        };
        let text = handover_text(&left).expect("it is written");

        annotate(&mut lease, HANDOVER, text);
        assert_eq!(handover(&lease), Ok(Some(left)));

        annotate(&mut lease, HANDOVER, "nonsense".to_owned());
        assert!(handover(&lease).unwrap_err().contains("callsheet/handover"));
    }
}
