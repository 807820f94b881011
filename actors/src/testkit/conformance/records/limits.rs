//! What is too much is refused, and what is allowed is done.

use super::*;
use crate::port::{HINT_BYTES_MAX, RECORD_ID_MAX};

/// The least that a store takes.
const READS_MIN: usize = 64;
const UNIT_RECORDS_MIN: usize = 16;
const RECORD_BYTES_MIN: usize = 64 * 1_024;

/// How many units, and reads, are tried at most where a store has no limit to speak of.
const TRIED_MAX: usize = 2_048;

impl Suite {
    pub(super) async fn limits(&self) {
        self.a_store_takes_at_least_what_the_engine_needs();
        self.a_commit_may_be_as_large_as_the_limits().await;
        self.a_larger_commit_is_refused().await;
        self.a_read_may_be_as_large_as_the_limit().await;
    }

    fn a_store_takes_at_least_what_the_engine_needs(&self) {
        let limits = self.first.limits();
        assert!(limits.reads >= READS_MIN && limits.units >= 1, "{limits:?}");
        assert!(limits.unit_records >= UNIT_RECORDS_MIN, "{limits:?}");
        assert!(limits.commit_records >= limits.unit_records, "{limits:?}");
        assert!(limits.record_bytes >= RECORD_BYTES_MIN, "{limits:?}");
        assert!(limits.commit_bytes >= limits.record_bytes, "{limits:?}");
        assert!(limits.ttl.start() < limits.ttl.end(), "{limits:?}");
        assert!(!self.first.traits().name.is_empty());
    }

    fn guarded(&self, units: Vec<Unit>) -> Commit {
        Commit { alive: vec![self.own], units, ..Commit::default() }
    }

    async fn a_commit_may_be_as_large_as_the_limits(&self) {
        let limits = self.first.limits();
        let units = limits.units.min(limits.commit_records).min(TRIED_MAX);
        let many = (0..units).map(|at| unit(vec![put(&format!("many-{at}"), Version::ABSENT, b"1")]));
        let wide = (0..limits.unit_records).map(|at| put(&format!("wide-{at}"), Version::ABSENT, b"1"));
        let big = vec![b'x'; limits.record_bytes];
        let (longest, hint) = ("l".repeat(RECORD_ID_MAX), Arc::from(vec![b'h'; HINT_BYTES_MAX]));
        let long = Unit { records: vec![keep(&longest, Version::ABSENT)], hints: vec![hint] };
        for units in [
            many.collect(),
            vec![unit(wide.collect())],
            vec![unit(vec![put("big", Version::ABSENT, &big)])],
            vec![long],
        ] {
            let answered = answers(&*self.first, &self.guarded(units)).await;
            assert!(answered.iter().all(|answer| *answer != UnitAnswer::Conflict));
        }
        assert_eq!(self.stored("big").await.bytes, big);
    }

    async fn a_larger_commit_is_refused(&self) {
        let limits = self.first.limits();
        let unit_of = |id: &str, bytes: usize| unit(vec![put(id, Version::ABSENT, &vec![b'x'; bytes])]);
        let marker = || unit_of("refused", 1);
        let too_wide = (0..=limits.unit_records).map(|at| keep(&format!("too-wide-{at}"), Version::ABSENT));
        let hint = Arc::from(vec![b'h'; HINT_BYTES_MAX + 1]);
        let asked = [
            ("too many units", vec![unit(Vec::new()); limits.units]),
            ("too many records in a unit", vec![unit(too_wide.collect())]),
            ("a record with too many bytes", vec![unit_of("too-big", limits.record_bytes + 1)]),
            ("an id that is too long", vec![unit_of(&"i".repeat(RECORD_ID_MAX + 1), 1)]),
            ("a hint that is too long", vec![Unit { records: Vec::new(), hints: vec![hint] }]),
        ];
        for (what, mut units) in asked {
            units.push(marker());
            assert_over_limit(self.first.commit(&self.guarded(units)).await, what);
        }
        let guarded_thrice =
            Commit { alive: vec![self.own; Commit::ALIVE_MAX + 1], ..self.guarded(vec![marker()]) };
        assert_over_limit(self.first.commit(&guarded_thrice).await, "too many sessions");
        assert_eq!(self.stored("refused").await, StoredRecord::ABSENT, "nothing was done");
    }

    async fn a_read_may_be_as_large_as_the_limit(&self) {
        let reads = self.first.limits().reads.min(TRIED_MAX);
        let names = vec![name("big-read"); reads - 1];
        let read = self.first.read(&names, &[self.own]).await.expect("an answer");
        assert_eq!((read.records.len(), read.alive), (reads - 1, vec![true]));
        let limit = self.first.limits().reads;
        if limit <= TRIED_MAX {
            let names = vec![name("big-read"); limit];
            let refused = self.first.read(&names, &[self.own]).await;
            assert!(matches!(refused, Err(RecordsError::OverLimit { .. })), "{refused:?}");
        }
    }
}
