//! How many lines of one kind are logged in a minute, and what is said of the others.

use std::{collections::HashMap, fmt, mem, time::Duration};

use super::text::Grouped;
use crate::name::JobName;

/// The time for which lines are counted.
pub(crate) const LOG_PERIOD: Duration = Duration::from_mins(1);
/// The most lines of one kind about one job in a minute.
pub const JOB_LINES_MAX: u32 = 5;
/// The most jobs about which lines of one kind are logged in a minute.
pub const JOBS_LOGGED_MAX: usize = 256;
/// The most jobs of which is said how many lines of one kind were left out.
const JOBS_COUNTED_MAX: usize = 10;

/// Decides which lines are logged: at most [`JOB_LINES_MAX`] of a kind about a job in a minute, about at most
/// [`JOBS_LOGGED_MAX`] jobs. The others are counted.
///
/// `L` is what a kind of lines is logged at. The budget holds nothing of the minutes before, so its size is
/// bounded by the number of kinds.
///
/// ```text
/// event    F  F  F  F  F  F  F  ·········  (minute over)         F
/// logged   F  F  F  F  F                   "… 2 more of it"      F
/// ```
#[derive(Debug)]
pub struct LogBudget<L> {
    /// When the first line was asked for of those that are counted.
    since: Option<Duration>,
    kinds: HashMap<&'static str, Kind<L>>,
    /// Something was left out.
    left_out: bool,
}

/// The lines of one kind.
#[derive(Debug)]
struct Kind<L> {
    level: L,
    jobs: HashMap<Option<JobName>, Count>,
    /// Left out of jobs that are not counted one by one.
    of_other_jobs: u64,
}

/// The lines of one kind about one job.
#[derive(Debug, Default)]
struct Count {
    logged: u32,
    left_out: u64,
}

/// Whether a line is logged, and what comes with the decision.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked<L> {
    /// It is logged.
    pub logged: bool,
    /// What was left out of the former lines, if their time is over. To be said before this line.
    pub over: Vec<LeftOut<L>>,
    /// This is the first line that is left out: [`close_period`](LogBudget::close_period) is to be called
    /// after this time.
    pub close_in: Option<Duration>,
}

/// Lines that were left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut<L> {
    /// Their kind.
    pub kind: &'static str,
    /// What they would have been logged at.
    pub level: L,
    /// Whom they are about.
    pub about: About,
    /// How many they are.
    pub count: u64,
}

/// Whom lines are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// The node.
    Node,
    /// One job.
    Job(JobName),
    /// Jobs beyond those that are counted one by one.
    OtherJobs,
}

impl<L> fmt::Display for LeftOut<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = Grouped(self.count);
        match &self.about {
            About::Node => write!(f, "{}: … {count} more in the last minute", self.kind),
            About::Job(job) => write!(f, "{} {job}: … {count} more in the last minute", self.kind),
            About::OtherJobs => {
                write!(f, "{}: … {count} more of other jobs in the last minute", self.kind)
            }
        }
    }
}

impl<L> Default for LogBudget<L> {
    fn default() -> Self {
        Self { since: None, kinds: HashMap::new(), left_out: false }
    }
}

impl<L: Copy> LogBudget<L> {
    /// Whether a line of a kind about a job, or about the node, is logged at the monotonic reading `now`.
    pub fn ask(&mut self, now: Duration, kind: &'static str, level: L, job: Option<&JobName>) -> Asked<L> {
        let over = self.close_period(now);
        let since = *self.since.get_or_insert(now);
        let kind =
            self.kinds.entry(kind).or_insert_with(|| Kind { level, jobs: HashMap::new(), of_other_jobs: 0 });
        let logged = kind.ask(job);
        let first = !logged && !self.left_out;
        self.left_out |= !logged;
        let close_in = first.then(|| LOG_PERIOD.saturating_sub(now.saturating_sub(since)));
        Asked { logged, over, close_in }
    }

    /// What was left out, if the minute is over. A new one then begins with the next line.
    pub fn close_period(&mut self, now: Duration) -> Vec<LeftOut<L>> {
        match self.since {
            Some(since) if now.saturating_sub(since) >= LOG_PERIOD => self.close(),
            Some(_) | None => Vec::new(),
        }
    }

    /// What was left out so far: the minute is over.
    pub fn close(&mut self) -> Vec<LeftOut<L>> {
        let Self { kinds, .. } = mem::take(self);
        let mut left_out: Vec<_> =
            kinds.into_iter().flat_map(|(kind, of_kind)| of_kind.left_out(kind)).collect();
        // Of one kind they are in order.
        left_out.sort_by_key(|one| one.kind);
        left_out
    }
}

impl<L: Copy> Kind<L> {
    fn ask(&mut self, job: Option<&JobName>) -> bool {
        let known = self.jobs.len();
        let job = job.cloned();
        let count = match self.jobs.get_mut(&job) {
            Some(count) => count,
            None if known < JOBS_LOGGED_MAX => self.jobs.entry(job).or_default(),
            None => {
                self.of_other_jobs += 1;
                return false;
            }
        };
        if count.logged < JOB_LINES_MAX {
            count.logged += 1;
            return true;
        }
        count.left_out += 1;
        false
    }

    /// The jobs of which most was left out, then all others together.
    fn left_out(self, kind: &'static str) -> Vec<LeftOut<L>> {
        let Self { level, jobs, mut of_other_jobs } = self;
        let mut jobs: Vec<_> = jobs.into_iter().filter(|(_, count)| count.left_out > 0).collect();
        jobs.sort_by(|(a, of_a), (b, of_b)| (of_b.left_out, a).cmp(&(of_a.left_out, b)));
        let beyond = jobs.split_off(jobs.len().min(JOBS_COUNTED_MAX));
        of_other_jobs += beyond.iter().map(|(_, count)| count.left_out).sum::<u64>();
        let of_job = |(job, count): (Option<JobName>, Count)| {
            let about = job.map_or(About::Node, About::Job);
            LeftOut { kind, level, about, count: count.left_out }
        };
        let others = LeftOut { kind, level, about: About::OtherJobs, count: of_other_jobs };
        jobs.into_iter().map(of_job).chain((of_other_jobs > 0).then_some(others)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: impl AsRef<str>) -> JobName {
        JobName::new(name).expect("a good name")
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// Asks for so many lines about a job at once. Answers how many are logged.
    fn logged(budget: &mut LogBudget<()>, now: Duration, name: &str, count: usize) -> usize {
        let name = job(name);
        (0..count).filter(|_| budget.ask(now, "RunFailed", (), Some(&name)).logged).count()
    }

    #[test]
    fn five_lines_of_a_job_are_logged_in_a_minute_and_the_others_counted() {
        let mut budget = LogBudget::default();

        assert_eq!(logged(&mut budget, secs(10), "a", 46), 5);
        assert_eq!(logged(&mut budget, secs(20), "b", 5), 5);
        assert!(budget.close_period(secs(69)).is_empty(), "the minute is not over");
        let said: Vec<_> = budget.close_period(secs(70)).iter().map(ToString::to_string).collect();

        assert_eq!(said, ["RunFailed a: … 41 more in the last minute"]);
        assert!(budget.close_period(secs(200)).is_empty(), "it is said once");
        assert_eq!(logged(&mut budget, secs(200), "a", 6), 5, "a new minute");
    }

    #[test]
    fn the_first_line_that_is_left_out_says_when_its_minute_is_over() {
        let mut budget = LogBudget::default();
        logged(&mut budget, secs(10), "a", 5);

        let [first, second] =
            [secs(25), secs(30)].map(|now| budget.ask(now, "RunFailed", (), Some(&job("a"))));

        assert_eq!(first, Asked { logged: false, over: Vec::new(), close_in: Some(secs(45)) });
        assert_eq!(second, Asked { logged: false, over: Vec::new(), close_in: None });
    }

    #[test]
    fn what_was_not_closed_is_said_with_the_next_line() {
        let mut budget = LogBudget::default();
        logged(&mut budget, secs(0), "a", 7);

        let asked = budget.ask(secs(600), "RunLost", (), Some(&job("a")));

        let left_out = LeftOut { kind: "RunFailed", level: (), about: About::Job(job("a")), count: 2 };
        assert_eq!(asked, Asked { logged: true, over: vec![left_out], close_in: None });
    }

    #[test]
    fn kinds_and_the_node_itself_have_lines_of_their_own() {
        let mut budget = LogBudget::default();
        logged(&mut budget, secs(0), "a", 5);

        for _ in 0..5 {
            assert!(budget.ask(secs(1), "RunTimedOut", (), Some(&job("a"))).logged);
            assert!(budget.ask(secs(1), "RunFailed", (), None).logged);
        }
        assert!(!budget.ask(secs(1), "RunFailed", (), None).logged);

        let said: Vec<_> = budget.close().iter().map(ToString::to_string).collect();
        assert_eq!(said, ["RunFailed: … 1 more in the last minute"]);
    }

    #[test]
    fn a_hundred_thousand_jobs_that_fail_take_few_lines_and_little_room() {
        let mut budget = LogBudget::default();

        let lines: usize = (0..100_000).map(|nth| logged(&mut budget, secs(1), &nth.to_string(), 1)).sum();
        let again: usize = (0..100).map(|nth| logged(&mut budget, secs(2), &nth.to_string(), 10 + nth)).sum();

        assert_eq!((lines, again), (JOBS_LOGGED_MAX, 100 * 4));
        assert_eq!(budget.kinds["RunFailed"].jobs.len(), JOBS_LOGGED_MAX);
        let left_out = budget.close();
        assert_eq!(left_out.len(), JOBS_COUNTED_MAX + 1);
        assert_eq!(left_out[0].to_string(), "RunFailed 99: … 105 more in the last minute");
        let all: usize = (0..100).map(|nth| 6 + nth).sum::<usize>() + 100_000 - JOBS_LOGGED_MAX;
        assert_eq!(
            left_out.iter().map(|one| one.count).sum::<u64>(),
            all as u64,
            "nothing is left out uncounted"
        );
        assert!(left_out[JOBS_COUNTED_MAX].to_string().ends_with(" more of other jobs in the last minute"));
        assert!(budget.kinds.is_empty());
    }
}
