//! Which jobs a node enrols with the store next, and what follows from the answers.
//!
//! Jobs wait in a queue, and are enrolled page by page, one page at a time. What the store may refuse for its
//! data is asked by itself, in a [`Group`], before the others. A withdrawal under way goes first: a job may
//! have been removed and added again.
//!
//! | the answer to a page | its jobs | the next page |
//! |---|---|---|
//! | the store took it | are resumed; those whose rows somebody else has locked come back after a pause | at once |
//! | it refused the page for its data | are suspects | at once |
//! | it failed | come back, unless they are asked by themselves anyway | after a pause |

use std::{collections::VecDeque, time::Duration};

use chrono::{DateTime, Utc};

use crate::{
    core::{backoff::Backoff, suspects::Group},
    name::{JobName, Term},
    port::{Authority, Enrolled, NameUse, StoredState},
};

/// The pause before an enrolment that failed is tried again, or the look for runs of dead sessions; it
/// doubles up to [`ENROL_AGAIN_MAX`].
pub(crate) const ENROL_AGAIN_MIN: Duration = Duration::from_millis(500);
/// The longest pause before an enrolment that failed is tried again.
pub(crate) const ENROL_AGAIN_MAX: Duration = Duration::from_secs(5);
/// The longest pause before an enrolment whose row somebody else has locked is tried again.
pub(crate) const LOCKED_AGAIN_MAX: Duration = Duration::from_secs(1);
/// After so many enrolments in a row of which something was locked, what is locked counts as refused.
const ENROLMENTS_LOCKED_MAX: u32 = 8;

/// For how many jobs that wait there is room even when none does.
const ROOM_KEPT: usize = 1_024;

/// The jobs that wait to be enrolled, and the page that is under way.
#[derive(Debug)]
pub(crate) struct Enrolling {
    waiting: VecDeque<JobName>,
    under_way: bool,
    /// How many withdrawals are under way.
    withdrawals: usize,
    /// Of how many enrolments in a row something was locked.
    locked_in_a_row: u32,
    /// How many pages have jobs that were locked, and come back after a pause.
    pages_locked: u32,
    /// The pauses after those that failed, and those of which something was locked.
    failed: Backoff,
    locked: Backoff,
}

/// What is said of the locks that others hold.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LocksOfOthers {
    /// Nothing was locked.
    None,
    /// Something was: now and then that is so.
    Now,
    /// Something is locked all the time, and the job does not fire.
    Always,
}

impl Enrolling {
    /// Nothing waits. Two nodes differ by their seeds in what they pause.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            waiting: VecDeque::new(),
            under_way: false,
            withdrawals: 0,
            locked_in_a_row: 0,
            pages_locked: 0,
            failed: Backoff::new(ENROL_AGAIN_MIN, ENROL_AGAIN_MAX, seed),
            locked: Backoff::new(ENROL_AGAIN_MIN, LOCKED_AGAIN_MAX, seed),
        }
    }

    /// The job is to be enrolled.
    pub(crate) fn push(&mut self, job: JobName) {
        self.waiting.push_back(job);
    }

    /// These jobs are to be enrolled.
    pub(crate) fn extend(&mut self, jobs: impl IntoIterator<Item = JobName>) {
        self.waiting.extend(jobs);
    }

    /// Nothing is to be enrolled any more.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// The job that has waited longest.
    pub(crate) fn pop(&mut self) -> Option<JobName> {
        let first = self.waiting.pop_front();
        if self.waiting.is_empty() {
            // A million have waited here when the node began to lead.
            self.waiting.shrink_to(ROOM_KEPT);
        }
        first
    }

    /// Whether a page may be enrolled now.
    pub(crate) fn may_start(&self) -> bool {
        !self.under_way && self.withdrawals == 0
    }

    /// A page is under way.
    pub(crate) fn is_under_way(&self) -> bool {
        self.under_way
    }

    /// Jobs come back once their locks are free.
    pub(crate) fn waits_for_locks(&self) -> bool {
        self.pages_locked > 0
    }

    /// A page is sent.
    pub(crate) fn start(&mut self) {
        self.under_way = true;
    }

    /// The page under way was answered, or failed.
    pub(crate) fn answered(&mut self) {
        self.under_way = false;
    }

    /// The store took a page, of which these jobs were locked: after which pause they come back. A witness
    /// does not: it is enrolled already.
    pub(crate) fn taken(&mut self, group: Option<&Group>, locked: &[JobName]) -> Option<Duration> {
        self.failed.succeeded();
        if locked.is_empty() {
            self.locked.succeeded();
            return None;
        }
        if matches!(group, Some(Group::Witness(_))) {
            return None;
        }
        self.pages_locked += 1;
        Some(self.locked.failed())
    }

    /// The pause of jobs that were locked is over.
    pub(crate) fn come_back(&mut self, jobs: Vec<JobName>) {
        self.pages_locked -= 1;
        self.extend(jobs);
    }

    /// What is to be said of the locks, after a page that the store took.
    pub(crate) fn locks_of_others(&mut self, is_locked: bool) -> LocksOfOthers {
        if !is_locked {
            self.locked_in_a_row = 0;
            return LocksOfOthers::None;
        }
        if self.locked_in_a_row >= ENROLMENTS_LOCKED_MAX {
            return LocksOfOthers::Always;
        }
        self.locked_in_a_row += 1;
        LocksOfOthers::Now
    }

    /// Another term: others have other jobs locked.
    pub(crate) fn forget_locks(&mut self) {
        self.locked_in_a_row = 0;
    }

    /// A page failed: after which pause the next one goes. Its jobs come back, and those that this node has
    /// no right to any more are left out then. What is asked by itself is not queued: a suspect stays one,
    /// and a trial ends.
    pub(crate) fn failed(
        &mut self,
        group: Option<&Group>,
        jobs: impl IntoIterator<Item = JobName>,
    ) -> Duration {
        match group {
            None | Some(Group::Part(_)) => self.extend(jobs),
            Some(Group::Alone(_) | Group::Witness(_) | Group::Trial(_)) => {}
        }
        self.failed.failed()
    }

    /// So many withdrawals are sent: nothing is enrolled until all are answered.
    pub(crate) fn withdrawal_started(&mut self) {
        self.withdrawals += 1;
    }

    /// One is answered.
    pub(crate) fn withdrawal_ended(&mut self) {
        self.withdrawals -= 1;
    }

    /// No withdrawal is under way.
    pub(crate) fn is_free_of_withdrawals(&self) -> bool {
        self.withdrawals == 0
    }
}

/// The next page, and the group that it is. Without a group it is of those that wait; an empty one says that
/// there is nothing to enrol now.
///
/// A job that `admit` does not let in is left out. Of a group all may be left out: then it is not the end,
/// and others go.
pub(crate) fn next_page<S, E>(
    shell: &mut S,
    max: usize,
    next_group: impl Fn(&mut S) -> Option<Group>,
    next_waiting: impl Fn(&mut S) -> Option<JobName>,
    admit: impl Fn(&mut S, JobName) -> Option<E>,
) -> (Option<Group>, Vec<E>) {
    loop {
        let group = next_group(shell);
        let mut by_itself = group.as_ref().map(Group::jobs);
        let mut page = Vec::new();
        while page.len() < max
            && let Some(job) = match &mut by_itself {
                Some(jobs) => jobs.next().cloned(),
                None => next_waiting(shell),
            }
        {
            page.extend(admit(shell, job));
        }
        if !page.is_empty() || group.is_none() {
            return (group, page);
        }
    }
}

/// What follows from the answer to the enrolment of one job.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AfterEnrolment {
    /// It fires from here on.
    Resume {
        /// Every tick up to here is decided.
        cursor: DateTime<Utc>,
        /// What else the store keeps of it.
        stored: Box<StoredState>,
    },
    /// It was enrolled before, and goes on as it is: what waits in its queue, and what it skipped and did not
    /// write yet, would be decided again.
    GoesOn,
    /// Somebody else has it locked: it is asked again.
    Locked,
    /// Others declare this policy for its key: it does not fire.
    Refuse(String),
    /// It has another name elsewhere, which is in use: it does not fire.
    WaitForName(JobName, NameUse),
    /// The store does not know this term any more: the election hears of it, and no other answer of the page
    /// matters.
    TermIsOver(Term),
    /// The leader schedules it.
    LeaveToLeader,
}

impl AfterEnrolment {
    /// What follows from `answer` to a job that was enrolled by `authority`, perhaps as a
    /// witness.
    pub(crate) fn of(answer: Enrolled, authority: Authority, is_witness: bool) -> Self {
        match (answer, authority) {
            (Enrolled::Done { .. }, _) if is_witness => Self::GoesOn,
            (Enrolled::Done { cursor, stored }, _) => Self::Resume { cursor, stored },
            (Enrolled::Locked, _) => Self::Locked,
            (Enrolled::Conflict { declared }, _) => Self::Refuse(declared),
            (Enrolled::OtherName { name, used }, _) => Self::WaitForName(name, used),
            (Enrolled::Deposed { .. } | Enrolled::HasLeader, Authority::Term(term)) => Self::TermIsOver(term),
            (Enrolled::Deposed { .. } | Enrolled::HasLeader, Authority::Any | Authority::Leaderless) => {
                Self::LeaveToLeader
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(names: &[&str]) -> Vec<JobName> {
        names.iter().map(|name| JobName::new(*name).unwrap()).collect()
    }

    /// What a node has to enrol.
    struct Node {
        groups: VecDeque<Group>,
        enrolling: Enrolling,
        /// These it holds no more.
        gone: Vec<JobName>,
    }

    impl Node {
        fn new(groups: Vec<Group>, waiting: &[&str], gone: &[&str]) -> Self {
            let mut enrolling = Enrolling::new(1);
            enrolling.extend(jobs(waiting));
            Self { groups: groups.into(), enrolling, gone: jobs(gone) }
        }

        fn next_page(&mut self) -> (Option<Group>, Vec<JobName>) {
            let admit = |node: &mut Self, job: JobName| (!node.gone.contains(&job)).then_some(job);
            next_page(self, 2, |node| node.groups.pop_front(), |node| node.enrolling.pop(), admit)
        }
    }

    #[test]
    fn a_group_goes_before_those_that_wait() {
        let group = Group::Part(jobs(&["part"]));
        let mut node = Node::new(vec![group.clone()], &["a", "b", "c"], &[]);

        assert_eq!(node.next_page(), (Some(group), jobs(&["part"])));
        assert_eq!(node.next_page(), (None, jobs(&["a", "b"])), "a page has two");
        assert_eq!(node.next_page(), (None, jobs(&["c"])));
        assert_eq!(node.next_page(), (None, vec![]), "there is nothing to do");
    }

    #[test]
    fn a_group_of_which_nothing_is_left_does_not_hold_up_the_others() {
        // No timer is armed for those that wait: were the empty group the end, they would wait for ever.
        let groups = vec![Group::Part(jobs(&["gone"])), Group::Trial(jobs(&["gone"]))];
        let mut node = Node::new(groups, &["waits"], &["gone"]);

        assert_eq!(node.next_page(), (None, jobs(&["waits"])));
    }

    #[test]
    fn jobs_that_the_node_holds_no_more_take_no_place_of_a_page() {
        let mut node = Node::new(vec![], &["gone", "a", "b"], &["gone"]);

        assert_eq!(node.next_page(), (None, jobs(&["a", "b"])));
    }

    #[test]
    fn nothing_is_enrolled_while_a_page_or_a_withdrawal_is_under_way() {
        let mut enrolling = Enrolling::new(1);
        assert!(enrolling.may_start());

        enrolling.start();
        assert!(!enrolling.may_start() && enrolling.is_under_way());
        enrolling.answered();
        assert!(enrolling.may_start());

        enrolling.withdrawal_started();
        enrolling.withdrawal_started();
        enrolling.withdrawal_ended();
        assert!(!enrolling.may_start() && !enrolling.is_free_of_withdrawals(), "one of two is answered");
        enrolling.withdrawal_ended();
        assert!(enrolling.may_start());
    }

    #[test]
    fn jobs_that_are_locked_come_back_after_growing_pauses() {
        let mut enrolling = Enrolling::new(1);
        let locked = jobs(&["a"]);

        let first = enrolling.taken(None, &locked).expect("a pause");
        let second = enrolling.taken(None, &locked).expect("a pause");
        assert!(first <= ENROL_AGAIN_MIN && second > first && second <= LOCKED_AGAIN_MAX);
        assert!(enrolling.waits_for_locks() && enrolling.pop().is_none());

        enrolling.come_back(locked.clone());
        assert!(enrolling.waits_for_locks(), "another page waits");
        enrolling.come_back(locked);
        assert!(!enrolling.waits_for_locks());
        assert_eq!(enrolling.pop().as_ref().map(JobName::as_str), Some("a"));
    }

    #[test]
    fn a_witness_that_is_locked_does_not_come_back() {
        let mut enrolling = Enrolling::new(1);
        let witness = jobs(&["w"]);

        assert_eq!(enrolling.taken(Some(&Group::Witness(witness[0].clone())), &witness), None);

        assert!(!enrolling.waits_for_locks());
    }

    #[test]
    fn only_what_is_not_asked_by_itself_comes_back_when_a_page_failed() {
        let [one] = jobs(&["a"]).try_into().unwrap();
        for (group, comes_back) in [
            (None, true),
            (Some(Group::Part(jobs(&["a"]))), true),
            (Some(Group::Alone(one.clone())), false),
            (Some(Group::Witness(one.clone())), false),
            (Some(Group::Trial(jobs(&["a"]))), false),
        ] {
            let mut enrolling = Enrolling::new(1);

            let pause = enrolling.failed(group.as_ref(), jobs(&["a"]));

            assert!(pause > Duration::ZERO && pause <= ENROL_AGAIN_MIN, "{pause:?}");
            assert_eq!(enrolling.pop().is_some(), comes_back, "{group:?}");
        }
    }

    #[test]
    fn what_is_locked_in_nine_pages_in_a_row_counts_as_refused() {
        let mut enrolling = Enrolling::new(1);
        let mut pages = |locked: bool, count: u32| -> Vec<_> {
            (0..count).map(|_| enrolling.locks_of_others(locked)).collect()
        };

        assert!(pages(true, ENROLMENTS_LOCKED_MAX).iter().all(|said| *said == LocksOfOthers::Now));
        assert_eq!(pages(true, 2), [LocksOfOthers::Always, LocksOfOthers::Always]);
        assert_eq!(pages(false, 1), [LocksOfOthers::None]);
        assert_eq!(pages(true, 1), [LocksOfOthers::Now], "the count began again");
    }

    #[test]
    fn each_answer_leads_to_a_decision() {
        let (term, now) = (Term(7), DateTime::UNIX_EPOCH);
        let done = || Enrolled::Done { cursor: now, stored: Box::default() };
        let resume = || AfterEnrolment::Resume { cursor: now, stored: Box::default() };
        let conflict = || Enrolled::Conflict { declared: "skip".to_owned() };
        let refuse = || AfterEnrolment::Refuse("skip".to_owned());
        let deposed = || Enrolled::Deposed { term: Term(8) };
        let led = Authority::Term(term);
        for (answer, authority, is_witness, expected) in [
            (done(), led, false, resume()),
            (done(), Authority::Any, false, resume()),
            (done(), Authority::Leaderless, false, resume()),
            (done(), led, true, AfterEnrolment::GoesOn),
            (Enrolled::Locked, led, false, AfterEnrolment::Locked),
            (Enrolled::Locked, led, true, AfterEnrolment::Locked),
            (conflict(), led, false, refuse()),
            (conflict(), Authority::Leaderless, true, refuse()),
            (deposed(), led, false, AfterEnrolment::TermIsOver(term)),
            (Enrolled::HasLeader, led, false, AfterEnrolment::TermIsOver(term)),
            (Enrolled::HasLeader, Authority::Leaderless, false, AfterEnrolment::LeaveToLeader),
            (deposed(), Authority::Leaderless, false, AfterEnrolment::LeaveToLeader),
            (deposed(), Authority::Any, false, AfterEnrolment::LeaveToLeader),
        ] {
            let found = AfterEnrolment::of(answer.clone(), authority, is_witness);
            assert_eq!(found, expected, "{answer:?} by {authority:?}, a witness: {is_witness}");
        }
    }
}
