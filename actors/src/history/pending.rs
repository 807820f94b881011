//! Decisions that are counted together until their minute is over.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use foldhash::HashMap;

use crate::{name::JobName, port::DecisionRecord};

/// How long equal decisions are counted together.
pub(super) const COUNTED_FOR: Duration = Duration::from_mins(1);

/// How many shards jobs are divided among: a multiple of the usual numbers of job threads, each of which then has
/// its own.
pub(super) const SHARDS: usize = 16;

/// The most decisions that are counted at once, of the jobs of one shard: 32,768 of all. Of more, the one that
/// is counted for longest is handed on, at most [`EARLY_MAX`] a second.
const COUNTED_MAX: usize = 32_768 / SHARDS;

/// How many decisions a second are handed on before their minute is over, of the jobs of one shard: 8,192 of all. More
/// would only push each other out of any history.
const EARLY_MAX: u32 = 8_192 / SHARDS as u32;

/// The most bytes that they take, with their texts: 16 MiB of all.
const COUNTED_BYTES_MAX: usize = 16 * 1024 * 1024 / SHARDS;

type Key = (Option<JobName>, &'static str);

/// Decisions that are counted together: of one job, for one reason.
#[derive(Default)]
pub(super) struct Pending {
    counted: HashMap<Key, Counted>,
    /// Each once, with since when it is counted; the one that is counted for longest comes first.
    order: VecDeque<(Duration, Key)>,
    bytes: usize,
    /// How many were handed on early, in the second that began then.
    early: (Duration, u32),
}

struct Counted {
    /// It is shared with whoever was shown it, so that nothing is copied while others wait.
    record: Arc<DecisionRecord>,
    /// It counts more than was handed on.
    is_new: bool,
}

fn bytes_of(record: &DecisionRecord) -> usize {
    size_of::<(Key, Counted)>()
        + size_of::<(Duration, Key)>()
        + size_of::<DecisionRecord>()
        + record.text_bytes()
}

impl Pending {
    /// Takes a decision in at the monotonic reading `now`. What is over goes to `over`. `false`: it is dropped, since
    /// there are too many.
    pub(super) fn add(
        &mut self,
        now: Duration,
        record: DecisionRecord,
        over: &mut Vec<DecisionRecord>,
    ) -> bool {
        if !record.decision.is_coalesced() {
            over.push(record);
            return true;
        }
        while self.is_oldest_over(now) {
            over.extend(self.close_oldest().map(Arc::unwrap_or_clone));
        }
        let key = (record.job.clone(), record.decision.reason());
        if let Some(counted) = self.counted.get_mut(&key) {
            self.bytes -= bytes_of(&counted.record);
            Arc::make_mut(&mut counted.record).add(record);
            self.bytes += bytes_of(&counted.record);
            counted.is_new = true;
        } else if self.has_room(&record) || self.may_close_early(now) {
            self.bytes += bytes_of(&record);
            self.order.push_back((now, key.clone()));
            self.counted.insert(key, Counted { record: Arc::new(record), is_new: true });
        } else {
            return false;
        }
        while self.counted.len() > COUNTED_MAX || self.bytes > COUNTED_BYTES_MAX {
            over.extend(self.close_oldest().map(Arc::unwrap_or_clone));
        }
        true
    }

    fn has_room(&self, record: &DecisionRecord) -> bool {
        self.counted.len() < COUNTED_MAX && self.bytes + bytes_of(record) <= COUNTED_BYTES_MAX
    }

    /// Whether one may be handed on early, which is counted.
    fn may_close_early(&mut self, now: Duration) -> bool {
        let (since, count) = &mut self.early;
        if now.saturating_sub(*since) >= Duration::from_secs(1) {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= EARLY_MAX
    }

    fn is_oldest_over(&self, now: Duration) -> bool {
        self.order.front().is_some_and(|(since, _)| now.saturating_sub(*since) >= COUNTED_FOR)
    }

    /// Answers what it counted, if there is something new in it.
    fn close_oldest(&mut self) -> Option<Arc<DecisionRecord>> {
        let (_, key) = self.order.pop_front()?;
        let Counted { record, is_new } = self.counted.remove(&key)?;
        self.bytes -= bytes_of(&record);
        is_new.then_some(record)
    }

    /// Hands on those whose minute is over.
    pub(super) fn close(&mut self, now: Duration, over: &mut Vec<Arc<DecisionRecord>>) {
        while self.is_oldest_over(now) {
            over.extend(self.close_oldest());
        }
    }

    /// Whether nothing is counted.
    pub(super) fn is_empty(&self) -> bool {
        self.counted.is_empty()
    }

    /// How many count more than was handed on.
    pub(super) fn count_new(&self) -> usize {
        self.counted.values().filter(|counted| counted.is_new).count()
    }

    /// Hands on what was counted so far. It is counted on.
    pub(super) fn show(&mut self, shown: &mut Vec<Arc<DecisionRecord>>) {
        for counted in self.counted.values_mut().filter(|counted| counted.is_new) {
            counted.is_new = false;
            shown.push(counted.record.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::{core::skip::SkipReason, name::NodeId, port::Decision};

    fn skipped(job: &str) -> DecisionRecord {
        let reason = SkipReason::Paused;
        let decision =
            Decision::Skipped { reason, count: 1, at_least: false, text: None, by: None, run: None };
        let job = JobName::new(job).expect("a good name");
        DecisionRecord::new(Some(job), DateTime::UNIX_EPOCH, NodeId::numbered(1), decision)
    }

    fn count(record: &DecisionRecord) -> u64 {
        match record.decision {
            Decision::Skipped { count, .. } => count,
            _ => panic!("{record:?}"),
        }
    }

    #[test]
    fn what_is_known_is_counted_on_however_many_there_are() {
        let (mut pending, mut over) = (Pending::default(), Vec::new());
        let now = Duration::ZERO;
        for nth in 0..COUNTED_MAX {
            pending.add(now, skipped(&format!("job-{nth}")), &mut over);
        }

        for _ in 0..3 {
            pending.add(now, skipped("job-1"), &mut over);
        }

        assert!(over.is_empty(), "{}", over.len());
        let mut shown = Vec::new();
        pending.show(&mut shown);
        assert_eq!(shown.len(), COUNTED_MAX);
        assert_eq!(shown.iter().map(|one| count(one)).max(), Some(4));
    }

    #[test]
    fn of_too_many_the_oldest_alone_is_handed_on() {
        let (mut pending, mut over) = (Pending::default(), Vec::new());
        let now = Duration::ZERO;
        for nth in 0..=COUNTED_MAX {
            pending.add(now, skipped(&format!("job-{nth}")), &mut over);
        }

        assert_eq!(over, [skipped("job-0")]);
        assert_eq!(pending.counted.len(), COUNTED_MAX);
    }

    #[test]
    fn of_far_too_many_in_a_second_the_rest_is_dropped() {
        let (mut pending, mut over) = (Pending::default(), Vec::new());
        let jobs = COUNTED_MAX + EARLY_MAX as usize + 10;
        let second = |second| Duration::from_secs(second) + Duration::from_millis(100);

        let taken =
            (0..jobs).filter(|nth| pending.add(second(0), skipped(&format!("job-{nth}")), &mut over)).count();
        assert_eq!((taken, over.len()), (jobs - 10, EARLY_MAX as usize));

        assert!(
            pending.add(second(0), skipped(&format!("job-{}", taken - 1)), &mut over),
            "it is counted already"
        );
        assert!(!pending.add(second(0), skipped("one-more"), &mut over));
        assert!(pending.add(second(1), skipped("one-more"), &mut over), "a second later");
        assert_eq!((pending.counted.len(), over.len()), (COUNTED_MAX, EARLY_MAX as usize + 1));
    }

    #[test]
    fn a_minute_is_over_for_those_that_it_counted() {
        let (mut pending, mut over) = (Pending::default(), Vec::new());
        pending.add(Duration::ZERO, skipped("first"), &mut over);
        pending.add(Duration::from_secs(30), skipped("second"), &mut over);

        pending.add(COUNTED_FOR, skipped("first"), &mut over);

        assert_eq!(over, [skipped("first")]);
        assert_eq!((pending.order.len(), pending.counted.len()), (2, 2));
        let mut closed = Vec::new();
        pending.close(COUNTED_FOR * 2, &mut closed);
        assert_eq!(closed.len(), 2);
        assert_eq!((pending.bytes, pending.order.len()), (0, 0));
    }
}
