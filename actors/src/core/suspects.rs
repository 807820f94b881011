//! Which jobs are to blame for the enrolments that the store refuses for their data, and which enrolment is
//! asked next.
//!
//! A refused page is halved until the bad jobs stand alone. But a rule that nobody keeps refuses the good
//! ones as well, so that first somebody has to get through: a *witness*, which is enrolled already and is
//! asked once more, or one of the page, by itself.
//!
//! | refused | and then | what follows |
//! |---|---|---|
//! | a page | somebody gets through | its halves are asked, then theirs, until the bad jobs stand alone |
//! | one job alone | somebody gets through | it is asked again; refused again it is to blame |
//! | either | whoever is asked is refused too | one by one is asked, a witness and a suspect in turn, at growing pauses |
//! | the node's only job | | the same: there is no witness, and it is never to blame |
//!
//! ```text
//! a, b are new, w is enrolled      [a b] ✗   w ✓   [b] ✓  [a] ✗   w ✓   [a] ✗ to blame
//! a rule that nobody keeps         [a b] ✗   w ✗ · a ✗ ·· w ✗ ···· b ✗ ········
//! ```

use std::{collections::BTreeSet, ops::Bound, time::Duration};

use crate::{
    core::{backoff::Backoff, bisect::Bisect, witnesses::Witnesses},
    name::JobName,
};

/// Jobs that are to be enrolled by themselves, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Group {
    /// A part of a page that was refused, while others got through.
    Part(Vec<JobName>),
    /// A suspect, while nobody gets through.
    Alone(JobName),
    /// Enrolled already: to see whether anybody gets through.
    Witness(JobName),
    /// Parked, and tried again.
    Trial(Vec<JobName>),
}

impl Group {
    /// The jobs of the group.
    pub(crate) fn jobs(&self) -> std::slice::Iter<'_, JobName> {
        match self {
            Self::Part(jobs) | Self::Trial(jobs) => jobs.iter(),
            Self::Alone(job) | Self::Witness(job) => std::slice::from_ref(job).iter(),
        }
    }
}

/// What was refused, until it is known who is to blame. Readings are of the monotonic clock.
#[derive(Debug)]
pub(crate) struct Suspects {
    parts: Bisect<JobName>,
    /// Pages that were refused, and nobody got through since. None is empty.
    pages: Vec<Vec<JobName>>,
    /// Refused alone, and nobody got through since.
    alone: BTreeSet<JobName>,
    /// What was asked last of those.
    last_alone: Option<JobName>,
    /// When to look next whether anybody gets through.
    look_at: Duration,
    /// The next look is at a witness.
    calls_witness: bool,
    pauses: Backoff,
    witnesses: Witnesses,
    /// The most jobs that are enrolled in one call.
    page_max: usize,
}

impl Suspects {
    /// Nobody is suspected. While everybody is refused somebody is asked after `pauses`.
    pub(crate) fn new(pauses: Backoff, page_max: usize) -> Self {
        Self {
            parts: Bisect::default(),
            pages: Vec::new(),
            alone: BTreeSet::new(),
            last_alone: None,
            look_at: Duration::ZERO,
            calls_witness: true,
            pauses,
            witnesses: Witnesses::default(),
            page_max,
        }
    }

    /// The store took the enrolment of a job: not everybody is refused.
    pub(crate) fn took(&mut self, now: Duration, job: &JobName) {
        self.witnesses.took(job);
        if !self.looks() {
            return;
        }
        self.alone.remove(job);
        let mut rest = std::mem::take(&mut self.alone).into_iter().peekable();
        while rest.peek().is_some() {
            self.parts.add(now, rest.by_ref().take(self.page_max).collect());
        }
        for page in std::mem::take(&mut self.pages) {
            // They were refused together: the halves are next.
            if let Some(single) = self.parts.refused(now, page) {
                self.parts.add(now, vec![single]);
            }
        }
        self.pauses.succeeded();
        self.calls_witness = true;
    }

    /// The store refused a page for its data.
    pub(crate) fn refused_page(&mut self, now: Duration, jobs: Vec<JobName>) -> Option<JobName> {
        if jobs.len() < 2 {
            return self.refused(now, jobs);
        }
        self.look_soon(now);
        self.pages.push(jobs);
        None
    }

    /// The store refused a part of a page, or a suspect, for its data. Answers the job, if it is to blame.
    pub(crate) fn refused(&mut self, now: Duration, jobs: Vec<JobName>) -> Option<JobName> {
        let job = self.parts.refused(now, jobs)?;
        if self.witnesses.blame(now, &job) {
            self.alone.remove(&job);
            return Some(job);
        }
        self.look_soon(now);
        self.alone.insert(job);
        None
    }

    /// A suspect is not to be enrolled any more.
    pub(crate) fn drop_suspect(&mut self, job: &JobName) {
        self.witnesses.forget(job);
        self.alone.remove(job);
    }

    /// The session is lost: what it refused is held against nobody.
    pub(crate) fn forget_refusals(&mut self) {
        self.witnesses.forget_all();
    }

    /// The group to be enrolled now, if it is time for one. A witness is asked only if this
    /// [wants](Self::wants_witness) one.
    pub(crate) fn take(&mut self, now: Duration, witness: Option<JobName>) -> Option<Group> {
        if let Some(part) = self.parts.take(now) {
            return Some(Group::Part(part));
        }
        if !self.may_look(now) {
            return None;
        }
        self.look_at = now.saturating_add(self.pauses.failed());
        let calls_witness = self.calls_witness;
        self.calls_witness = !calls_witness;
        let witness = witness.filter(|_| calls_witness).map(Group::Witness);
        witness.or_else(|| self.next_suspect().map(Group::Alone))
    }

    /// Whether a job is wanted now that was not [refused alone](Self::is_alone).
    pub(crate) fn wants_witness(&self, now: Duration) -> bool {
        self.calls_witness && self.may_look(now) && self.parts.wake_at().is_none_or(|at| at > now)
    }

    /// Whether it was refused alone, and nobody got through since.
    pub(crate) fn is_alone(&self, job: &JobName) -> bool {
        self.alone.contains(job)
    }

    /// When the next group is to be enrolled, if there is one.
    pub(crate) fn wake_at(&self) -> Option<Duration> {
        let look_at = self.looks().then_some(self.look_at);
        self.parts.wake_at().into_iter().chain(look_at).min()
    }

    fn may_look(&self, now: Duration) -> bool {
        self.looks() && now >= self.look_at
    }

    /// Somebody was refused, and nobody got through since.
    fn looks(&self) -> bool {
        !(self.alone.is_empty() && self.pages.is_empty())
    }

    /// Looks at once, unless it does so anyway, or did just now.
    fn look_soon(&mut self, now: Duration) {
        if !self.looks() {
            self.look_at = self.look_at.max(now);
        }
    }

    /// One that was not asked alone yet, or the next one of those that were. It stays refused alone until
    /// something is said of it.
    fn next_suspect(&mut self) -> Option<JobName> {
        if let Some(page) = self.pages.last_mut() {
            let next = page.pop()?;
            self.pages.retain(|page| !page.is_empty());
            self.alone.insert(next.clone());
            return Some(next);
        }
        let after = self.last_alone.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.alone.range::<JobName, _>((after, Bound::Unbounded)).next();
        let next = next.or_else(|| self.alone.first()).cloned()?;
        self.last_alone = Some(next.clone());
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(500);
    const MAX: Duration = Duration::from_secs(5);

    /// A node that enrols jobs, each call at once when it is time.
    struct Node {
        suspects: Suspects,
        now: Duration,
        enrolled: BTreeSet<JobName>,
        blamed: Vec<String>,
        calls: Vec<Duration>,
    }

    fn named(name: &str) -> JobName {
        JobName::new(name).unwrap()
    }

    impl Node {
        fn new(enrolled: &[&str]) -> Self {
            Self {
                suspects: Suspects::new(Backoff::new(MIN, MAX, 7), 1_000),
                now: Duration::from_secs(7),
                enrolled: enrolled.iter().map(|name| named(name)).collect(),
                blamed: Vec::new(),
                calls: Vec::new(),
            }
        }

        fn ask(&mut self, group: Option<Group>, page: &[&str], is_bad: impl Fn(&str) -> bool) {
            self.calls.push(self.now);
            let is_witness = matches!(group, Some(Group::Witness(_)));
            let is_page = group.is_none();
            let jobs = match group {
                Some(Group::Part(jobs) | Group::Trial(jobs)) => jobs,
                Some(Group::Alone(job) | Group::Witness(job)) => vec![job],
                None => page.iter().map(|name| named(name)).collect(),
            };
            if !jobs.iter().any(|job| is_bad(job.as_str())) {
                for job in jobs {
                    self.suspects.took(self.now, &job);
                    self.enrolled.insert(job);
                }
            } else if !is_witness {
                let blamed = match is_page {
                    true => self.suspects.refused_page(self.now, jobs),
                    false => self.suspects.refused(self.now, jobs),
                };
                self.blamed.extend(blamed.map(|job| job.as_str().to_owned()));
            }
        }

        fn run_for(&mut self, span: Duration, is_bad: impl Fn(&str) -> bool) {
            let end = self.now + span;
            while let Some(at) = self.suspects.wake_at().filter(|at| *at <= end) {
                self.now = self.now.max(at);
                let witness = self.enrolled.iter().find(|job| !self.suspects.is_alone(job)).cloned();
                let group = self.suspects.take(self.now, witness);
                assert!(group.is_some(), "it said that there is one");
                self.ask(group, &[], &is_bad);
            }
            self.now = end;
        }
    }

    #[test]
    fn a_bad_job_is_blamed_soon_if_another_one_is_enrolled() {
        for new in [&["bad"][..], &["bad", "b"], &["a", "bad", "c"]] {
            let mut node = Node::new(&["enrolled"]);
            let is_bad = |job: &str| job == "bad";
            node.ask(None, new, is_bad);

            node.run_for(Duration::from_secs(4), is_bad);

            assert_eq!(node.blamed, ["bad"]);
            assert_eq!(node.enrolled.len(), new.len(), "the others are enrolled");
            assert!(node.calls.len() <= 9 && node.suspects.wake_at().is_none(), "{:?}", node.calls);
        }
    }

    #[test]
    fn nobody_is_to_blame_while_everybody_is_refused() {
        let jobs = ["a", "b", "c", "d"];
        for enrolled in [&[][..], &["e"], &["e", "f"]] {
            let mut node = Node::new(enrolled);
            node.ask(None, &jobs, |_| true);
            node.run_for(Duration::from_secs(60), |_| true);
            let calls = node.calls.len();

            node.run_for(Duration::from_secs(60), |_| true);

            assert_eq!(node.blamed, [""; 0]);
            let calls = node.calls.len() - calls;
            assert!((10..=18).contains(&calls), "one at a time, every few seconds: {calls} a minute");
            node.run_for(Duration::from_secs(7), |_| false);
            assert_eq!(node.enrolled.len(), jobs.len() + enrolled.len(), "all, once that is over");
            assert!(node.blamed.is_empty() && node.suspects.wake_at().is_none());
        }
    }

    #[test]
    fn the_only_job_of_a_node_is_asked_again_and_never_blamed() {
        let mut node = Node::new(&[]);
        node.ask(None, &["only"], |_| true);

        node.run_for(Duration::from_secs(3_600), |_| true);

        assert_eq!(node.blamed, [""; 0]);
        assert!(node.suspects.is_alone(&named("only")) && node.calls.len() < 1_000);
    }

    #[test]
    fn items_that_are_bad_alone_are_blamed_after_a_rule_for_all_is_gone() {
        let mut node = Node::new(&[]);
        node.ask(None, &["a", "bad", "c", "worse"], |_| true);
        node.run_for(Duration::from_secs(30), |_| true);

        node.run_for(Duration::from_secs(30), |job| ["bad", "worse"].contains(&job));

        node.blamed.sort();
        assert_eq!(node.blamed, ["bad", "worse"]);
        assert_eq!(node.enrolled.len(), 2);
    }
}
