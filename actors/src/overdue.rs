//! The jobs of a node whose due ticks the store does not decide.
//!
//! A job says so itself, when the store has refused or not answered what it asked: those that are well cost
//! nothing, and nobody looks at a million jobs to find one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};

use crate::{
    CALL_DEADLINE,
    core::time::FireTime,
    health::{PROBLEM_JOBS_MAX, Problem, ProblemJobs},
    name::JobName,
    port::{Decided, Proved},
};

/// The most jobs that are known by name; the others are counted.
const NAMED_MAX: usize = 10_000;
/// In how many different seconds jobs may have been marked that are counted. Beyond it they count from the
/// newest of these.
const SECONDS_MAX: usize = 1_000;

/// For how long nobody may have said that what is due is decided: two leases and the time of a call.
///
/// A leader says so nine tenths of a lease after it did last. If it dies just before, the next one leads a
/// lease and a second later, enrols its jobs, has their claims answered and says it.
pub(crate) fn undecided_max(lease: Duration) -> Duration {
    lease * 2 + CALL_DEADLINE
}

/// The jobs of a node whose due ticks the store does not decide, and what leaders say of all jobs.
#[derive(Debug, Default)]
pub(crate) struct Overdue {
    marks: Arc<Mutex<Marks>>,
    said: Mutex<Said>,
    /// Since when the first tick is due that was to be started by now, as the alarms of this node say.
    late: Mutex<Option<DateTime<Utc>>>,
}

/// What leaders have said.
#[derive(Debug, Default, Clone, Copy)]
struct Said {
    /// Since when, as the present one says, a tick is due and not decided.
    overdue_since: Option<DateTime<Utc>>,
    /// By when each missed tick that waits for its turn is to have begun, as the present one says.
    catching_up_until: Option<DateTime<Utc>>,
    /// When a leader said last that all is decided, by the monotonic clock, and the mark of that. It stays
    /// when the leader changes: the next one has to say it again. What was before the session was opened
    /// counts from then. `None`: not known.
    decided: Option<(u64, Duration)>,
    /// When the store was asked last, or the session was opened.
    asked_at: Duration,
    /// All that was due when the monotonic clock read this is decided, as a leader said. Time without a session
    /// does not move it.
    all_decided_at: Option<Duration>,
    /// When the store was asked last and answered.
    heard_at: Option<Duration>,
    /// Since when a tick is due and not decided, as this node has said of another one that leads.
    told_of_leader: Option<DateTime<Utc>>,
}

/// What has changed of another node that leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaderChange {
    /// Ticks are due since then which it does not decide.
    Overdue { since: DateTime<Utc> },
    /// None is any more, or this node leads itself; they were since then.
    Recovered { since: DateTime<Utc> },
}

#[derive(Debug, Default)]
struct Marks {
    /// By name and generation of their actors.
    named: BTreeMap<(JobName, u64), Since>,
    /// By the second in which they were marked, rounded up.
    unnamed: BTreeMap<u64, Unnamed>,
}

/// The jobs beyond those that are known by name.
#[derive(Debug, Clone, Copy)]
struct Unnamed {
    count: usize,
    /// The first tick of all that were counted here.
    tick: FireTime,
}

#[derive(Debug, Clone, Copy)]
struct Since {
    tick: FireTime,
    /// By the monotonic clock.
    marked_at: Duration,
}

/// Marks a job for as long as it lives.
#[derive(Debug)]
pub(crate) struct Mark {
    marks: Arc<Mutex<Marks>>,
    /// Where the cursor stands: once it moves, something is decided.
    pub(crate) cursor: DateTime<Utc>,
    place: Place,
}

/// Where a job is marked.
#[derive(Debug)]
enum Place {
    Named(JobName, u64),
    Unnamed(u64),
}

impl Marks {
    /// Counts one job more, and answers the second under which it is counted.
    fn count(&mut self, tick: FireTime, now: Duration) -> u64 {
        let second = now.as_secs() + u64::from(now.subsec_nanos() > 0);
        let newest = self.unnamed.last_key_value().map(|(second, _)| *second);
        let full = self.unnamed.len() >= SECONDS_MAX && !self.unnamed.contains_key(&second);
        let second = newest.filter(|_| full).unwrap_or(second);
        let unnamed = self.unnamed.entry(second).or_insert(Unnamed { count: 0, tick });
        unnamed.count += 1;
        unnamed.tick = unnamed.tick.min(tick);
        second
    }

    fn remove(&mut self, place: &Place) {
        match place {
            Place::Named(job, generation) => drop(self.named.remove(&(job.clone(), *generation))),
            Place::Unnamed(second) => {
                let Some(unnamed) = self.unnamed.get_mut(second) else { return };
                unnamed.count -= 1;
                if unnamed.count == 0 {
                    self.unnamed.remove(second);
                }
            }
        }
    }
}

impl Overdue {
    /// Marks a job of which a tick is due and not decided.
    pub(crate) fn mark(
        &self,
        (job, generation): (&JobName, u64),
        tick: FireTime,
        cursor: DateTime<Utc>,
        now: Duration,
    ) -> Box<Mark> {
        let mut marks = lock(&self.marks);
        let place = if marks.named.len() < NAMED_MAX {
            marks.named.insert((job.clone(), generation), Since { tick, marked_at: now });
            Place::Named(job.clone(), generation)
        } else {
            Place::Unnamed(marks.count(tick, now))
        };
        drop(marks);
        Box::new(Mark { marks: self.marks.clone(), cursor, place })
    }

    /// Since when a tick of a job that has been marked for longer than `bound` is due.
    fn since(&self, now: Duration, bound: Duration) -> Option<DateTime<Utc>> {
        self.problem(now, bound)?.since()
    }

    /// The alarms of this node say since when a tick is due that was to be started by now.
    pub(crate) fn set_late(&self, since: Option<DateTime<Utc>>) {
        *self.late.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// What this node says as the leader: since when a tick is due and not decided for longer than `bound`, or
    /// was to be started by now.
    pub(crate) fn to_say(&self, now: Duration, bound: Duration) -> Option<DateTime<Utc>> {
        let late = *self.late.lock().unwrap_or_else(PoisonError::into_inner);
        [self.since(now, bound), late].into_iter().flatten().min()
    }

    /// What the leader says: since when a tick is due and not decided, if there is one.
    pub(crate) fn leader_said(&self) -> Option<DateTime<Utc>> {
        self.said().overdue_since
    }

    /// What has changed since this was asked last of the node that leads, which is another one if this one `follows`.
    pub(crate) fn leader_changed(&self, follows: bool) -> Option<LeaderChange> {
        let mut said = self.said();
        let since = said.overdue_since.filter(|_| follows);
        match (said.told_of_leader, since) {
            (None, Some(since)) => {
                said.told_of_leader = Some(since);
                Some(LeaderChange::Overdue { since })
            }
            (Some(since), None) => {
                said.told_of_leader = None;
                Some(LeaderChange::Recovered { since })
            }
            // The first of them may be another one by now: the leader is still behind.
            (None, None) | (Some(_), Some(_)) => None,
        }
    }

    /// When, by the monotonic clock, a leader said last that all is decided, as far as this node knows.
    pub(crate) fn decided_at(&self) -> Option<Duration> {
        self.said().decided.map(|(_, at)| at)
    }

    /// A reading of the monotonic clock at which all that was due is decided, as a leader said.
    pub(crate) fn all_decided_at(&self) -> Option<Duration> {
        self.said().all_decided_at
    }

    /// By when each missed tick that waits for its turn is to have begun, as the leader says: while it is not behind.
    pub(crate) fn leader_catches_up_until(&self) -> Option<DateTime<Utc>> {
        let said = self.said();
        said.catching_up_until.filter(|_| said.overdue_since.is_none())
    }

    /// For how long nobody has said that what is due is decided, if that is too long: when the monotonic clock reads
    /// `now`, and the store's `store_time`. A leader that makes up for missed ticks at its pace says until when.
    pub(crate) fn undecided_for(
        &self,
        now: Duration,
        store_time: DateTime<Utc>,
        lease: Duration,
    ) -> Option<Duration> {
        let undecided = now.saturating_sub(self.decided_at()?);
        let is_known_why = self.leader_catches_up_until().is_some_and(|until| store_time < until);
        (undecided > undecided_max(lease) && !is_known_why).then_some(undecided)
    }

    /// Keeps what the store answered, which was asked at a reading of the monotonic clock.
    ///
    /// Whatever its clock says, a mark that is new was made after it was asked before.
    pub(crate) fn hear(&self, proved: Proved, asked_at: Duration) {
        let Proved { overdue_since, catching_up_until, decided } = proved;
        let mut said = self.said();
        (said.overdue_since, said.catching_up_until) = (overdue_since, catching_up_until);
        if let Some(Decided { mark, ago }) = decided
            && said.decided.is_none_or(|(former, _)| former != mark)
        {
            // A new mark was made since the store was asked before; the first may be of any age.
            let since_before = said.decided.and(said.heard_at).unwrap_or_default();
            said.all_decided_at =
                said.all_decided_at.max(Some(asked_at.saturating_sub(ago).max(since_before)));
        }
        said.heard_at = Some(asked_at);
        said.decided = decided.map(|Decided { mark, ago }| match said.decided {
            Some((former, at)) if former == mark => (mark, at),
            _ => (mark, asked_at.saturating_sub(ago).max(said.asked_at)),
        });
        said.asked_at = asked_at;
    }

    /// A session was opened, after a time without one. Nothing could be heard in it: it does not count, but
    /// what was before counts on, so that sessions which come and go hide nothing.
    pub(crate) fn on_opened(&self, now: Duration, away: Duration) {
        let mut said = self.said();
        said.decided = said.decided.map(|(mark, at)| (mark, (at + away).min(now)));
        said.asked_at = now;
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first tick of all jobs that was asked for in vain and is not decided.
    pub(crate) fn first_undecided(&self) -> Option<DateTime<Utc>> {
        let marks = lock(&self.marks);
        let named = marks.named.values().map(|mark| mark.tick);
        named.chain(marks.unnamed.values().map(|unnamed| unnamed.tick)).min().map(FireTime::instant)
    }

    /// No tick of any job was asked for in vain and is not decided.
    pub(crate) fn is_empty(&self) -> bool {
        let marks = lock(&self.marks);
        marks.named.is_empty() && marks.unnamed.is_empty()
    }

    /// The jobs that have been marked for longer than `bound`.
    pub(crate) fn problem(&self, now: Duration, bound: Duration) -> Option<Problem> {
        let marks = lock(&self.marks);
        let lasts = |marked_at: Duration| now.saturating_sub(marked_at) > bound;
        let mut jobs = ProblemJobs { first: Vec::new(), count: 0 };
        let mut since = DateTime::<Utc>::MAX_UTC;
        for (_, unnamed) in
            marks.unnamed.iter().take_while(|(second, _)| lasts(Duration::from_secs(**second)))
        {
            jobs.count += unnamed.count;
            since = since.min(unnamed.tick.instant());
        }
        for ((job, _), mark) in marks.named.iter().filter(|(_, mark)| lasts(mark.marked_at)) {
            if jobs.first.len() < PROBLEM_JOBS_MAX {
                jobs.first.push(job.clone());
            }
            jobs.count += 1;
            since = since.min(mark.tick.instant());
        }
        (jobs.count > 0).then_some(Problem::TicksUndecided { jobs, since })
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        lock(&self.marks).remove(&self.place);
    }
}

fn lock(marks: &Mutex<Marks>) -> MutexGuard<'_, Marks> {
    marks.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::core::job::tests::at;

    #[test]
    fn only_jobs_that_stay_marked_are_a_problem_and_the_first_are_named() {
        let overdue = Overdue::default();
        let bound = Duration::from_secs(5);
        let mark = |nth: u64, seconds| {
            let job = JobName::new(format!("job-{nth:05}")).unwrap();
            overdue.mark((&job, nth), FireTime::new(at("01:00")), at("00:00"), Duration::from_secs(seconds))
        };

        let mut marks: Vec<_> = (0..12).map(|nth| mark(nth, 10)).collect();
        let late = mark(12, 16);

        assert_eq!(overdue.problem(Duration::from_secs(15), bound), None);
        let Some(Problem::TicksUndecided { jobs, since }) = overdue.problem(Duration::from_secs(16), bound)
        else {
            panic!("it is a problem")
        };
        assert_eq!((jobs.first.len(), jobs.count, since), (PROBLEM_JOBS_MAX, 12, at("01:00")));
        assert!(jobs.to_string().ends_with("job-00009 and 2 more"), "{jobs}");
        marks.clear();
        assert_eq!(overdue.problem(Duration::from_secs(20), bound), None);
        drop(late);
    }

    #[test]
    fn very_many_are_counted_without_their_names() {
        let overdue = Overdue::default();
        let job = JobName::new("job").unwrap();
        let tick = FireTime::new(at("01:00"));

        let marks: Vec<_> = (0..NAMED_MAX as u64 + 7)
            .map(|nth| overdue.mark((&job, nth), tick, at("00:00"), Duration::ZERO))
            .collect();

        let problem = overdue.problem(Duration::from_secs(60), Duration::from_secs(5));
        assert!(matches!(problem, Some(Problem::TicksUndecided { jobs, .. }) if jobs.count == NAMED_MAX + 7));
        drop(marks);
        assert_eq!(overdue.problem(Duration::from_secs(60), Duration::from_secs(5)), None);
    }

    #[test]
    fn those_without_a_name_are_overdue_by_themselves_once_they_last() {
        let overdue = Overdue::default();
        let job = JobName::new("job").unwrap();
        let seconds = Duration::from_secs;
        let mark = |nth, tick: &str, at_second| {
            overdue.mark((&job, nth), FireTime::new(at(tick)), at("00:00"), seconds(at_second))
        };
        let of = |now| match overdue.problem(seconds(now), seconds(5)) {
            Some(Problem::TicksUndecided { jobs, since }) => Some((jobs.count, since)),
            _ => None,
        };
        let named: Vec<_> = (0..NAMED_MAX as u64).map(|nth| mark(nth, "01:00", 0)).collect();
        let (old, young) = (mark(NAMED_MAX as u64, "02:00", 1), mark(NAMED_MAX as u64 + 1, "03:00", 20));

        drop(named);

        assert_eq!((of(6), of(7)), (None, Some((1, at("02:00")))));
        drop(old);
        assert_eq!((of(25), of(26)), (None, Some((1, at("03:00")))));
        drop(young);
        assert_eq!(of(60), None);
    }

    const LEASE: Duration = Duration::from_secs(5);

    fn hear(overdue: &Overdue, mark: u64, ago: u64, asked_at: u64) {
        let decided = Some(Decided { mark, ago: Duration::from_secs(ago) });
        overdue.hear(Proved::new(None, decided), Duration::from_secs(asked_at));
    }

    fn undecided(overdue: &Overdue, now: u64) -> Option<u64> {
        let (now, store_time) = (Duration::from_secs(now), at("01:00") + TimeDelta::seconds(now as i64));
        overdue.undecided_for(now, store_time, LEASE).map(|undecided| undecided.as_secs())
    }

    #[test]
    fn a_clock_of_the_store_that_jumps_tells_nothing_new() {
        let overdue = Overdue::default();
        hear(&overdue, 7, 1, 100);
        // The server that was promoted is behind, then ahead: the mark is in its future, or long past.
        hear(&overdue, 7, 0, 104);
        hear(&overdue, 7, 3_600, 108);
        assert_eq!((undecided(&overdue, 114), undecided(&overdue, 115)), (None, Some(16)));

        hear(&overdue, 8, 3_600, 116);

        assert_eq!((undecided(&overdue, 123), undecided(&overdue, 124)), (None, Some(16)));
    }

    #[test]
    fn a_leader_that_makes_up_for_missed_ticks_is_not_silent_until_it_said_that_they_have_begun() {
        let overdue = Overdue::default();
        hear(&overdue, 7, 0, 100);
        let says = |until: u64, since: Option<&str>| {
            let until = Some(at("01:00") + TimeDelta::seconds(until as i64));
            let decided = Some(Decided { mark: 7, ago: Duration::from_secs(10) });
            let proved = Proved::new(since.map(at), decided).catching_up_until(until);
            overdue.hear(proved, Duration::from_secs(110));
        };
        says(180, None);

        assert_eq!((undecided(&overdue, 179), undecided(&overdue, 180)), (None, Some(80)));
        // Some wait for longer than they were to.
        says(180, Some("00:30"));
        assert_eq!((undecided(&overdue, 115), undecided(&overdue, 116)), (None, Some(16)));
        // The next leader, or the same one later, has none that wait.
        overdue.hear(
            Proved::new(None, Some(Decided { mark: 7, ago: Duration::from_secs(10) })),
            Duration::from_secs(120),
        );
        assert_eq!(undecided(&overdue, 130), Some(30));
    }

    #[test]
    fn that_another_leader_is_behind_is_told_once_and_so_is_its_end() {
        let overdue = Overdue::default();
        let since = at("01:00");
        let (behind, well) = (LeaderChange::Overdue { since }, LeaderChange::Recovered { since });
        for (said, follows, change) in [
            (None, true, None),
            (Some("01:00"), true, Some(behind)),
            (Some("02:00"), true, None),
            (None, true, Some(well)),
            // This node leads: what it says is its own.
            (Some("01:00"), false, None),
            (Some("01:00"), true, Some(behind)),
            (Some("01:00"), false, Some(well)),
            (None, false, None),
        ] {
            overdue.hear(Proved::new(said.map(at), None), Duration::from_secs(1));

            assert_eq!(overdue.leader_changed(follows), change, "{said:?} {follows}");
        }
    }

    #[test]
    fn a_leader_that_never_says_so_is_not_silent() {
        let overdue = Overdue::default();
        hear(&overdue, 7, 0, 100);
        overdue.hear(Proved::default(), Duration::from_secs(104));
        assert_eq!(undecided(&overdue, 1_000), None);

        overdue.hear(Proved::default(), Duration::from_secs(1_000));
        hear(&overdue, 7, 900, 1_004);

        assert_eq!((undecided(&overdue, 1_015), undecided(&overdue, 1_016)), (None, Some(16)));
    }

    #[test]
    fn time_without_a_session_counts_as_no_silence() {
        let overdue = Overdue::default();
        overdue.on_opened(Duration::from_secs(60), Duration::from_secs(60));
        hear(&overdue, 7, 3_600, 61);
        assert_eq!((undecided(&overdue, 75), undecided(&overdue, 76)), (None, Some(16)));

        overdue.on_opened(Duration::from_secs(170), Duration::from_secs(100));
        hear(&overdue, 7, 3_600, 171);

        assert_eq!((undecided(&overdue, 175), undecided(&overdue, 176)), (None, Some(16)));
    }
}
