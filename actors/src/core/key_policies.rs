//! Jobs that share a lock key share one overlap policy: on this node, and with other nodes.
//!
//! A node declares the policy of a key when it enrols a job that has it, and takes that back once it fires no
//! job with the key any more.
//!
//! | a key is to be taken back | and then |
//! |---|---|
//! | a job of this node is still fired with it | it is not: it is taken back when this node lets go of that job |
//! | an enrolment is under way, which may declare it | it is, after the answer |
//! | no job is fired with it | its page is taken back; jobs with it are enrolled after the answer |
//! | the session is lost | it is not: what a session declared ends with it |

use std::{collections::BTreeSet, mem, sync::Arc};

use foldhash::HashMap;

use crate::{
    core::policy::Overlap,
    fault::Fault,
    name::{JobName, LockKey},
    port::Declaration,
};

/// A job with its key, and the policy that it declares for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Declares<'a> {
    /// The job.
    pub(crate) job: &'a JobName,
    /// Its key.
    pub(crate) key: &'a LockKey,
    /// Its policy.
    pub(crate) overlap: Overlap,
}

impl Declares<'_> {
    /// Its key is not its own name, so that other jobs are likely to have it.
    pub(crate) fn shares_a_key(&self) -> bool {
        self.key.as_str() != self.job.as_str()
    }

    /// What the store is asked about it.
    pub(crate) fn to_declaration(self) -> Declaration {
        Declaration { job: self.job.clone(), key: self.key.clone(), overlap: self.overlap }
    }

    /// Why this node may not fire the job, as long as other nodes declare this policy for its key.
    pub(crate) fn refusal(self, declared: &str) -> Arc<str> {
        contradicted(&self.to_declaration(), declared).to_string().into()
    }
}

/// What is wrong with a job for whose key other nodes declare this policy.
pub(crate) fn contradicted(asked: &Declaration, declared: &str) -> Fault {
    let Declaration { job, key, overlap } = asked;
    let rule = format!(
        "jobs that share the lock key {:?} share one overlap policy, and that of other nodes is {declared:?}",
        key.as_str()
    );
    let cure = "choose the same, or another key, or remove the jobs that have it from the other nodes first";
    Fault::new("overlap policy", overlap.to_string(), rule, cure).within(&format!("job {:?}", job.as_str()))
}

/// Those of the jobs whose policy is another one than that of the first job with their key: of the job that
/// `held` finds, or of the first of them.
pub(crate) fn conflicts<'a>(
    jobs: impl IntoIterator<Item = Declares<'a>>,
    held: impl Fn(&LockKey) -> Option<Declares<'a>>,
) -> Vec<Fault> {
    let mut keys: HashMap<&LockKey, Declares<'_>> = HashMap::default();
    let mut faults = Vec::new();
    for one in jobs {
        let first = *keys.entry(one.key).or_insert_with(|| held(one.key).unwrap_or(one));
        if one.overlap != first.overlap {
            let rule = format!(
                "jobs that share the lock key {:?} share one overlap policy, and that of job {:?} is {:?}",
                one.key.as_str(),
                first.job.as_str(),
                first.overlap.to_string()
            );
            let fault = Fault::new("overlap policy", one.overlap.to_string(), rule, "choose the same");
            faults.push(fault.within(&format!("job {:?}", one.job.as_str())));
        }
    }
    faults
}

/// Which jobs share keys, and which keys are taken back.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    /// The jobs whose key is not their own name. Those of all others need no place here.
    shared: HashMap<LockKey, BTreeSet<JobName>>,
    /// Those for which this node is to declare no policy any more.
    to_retract: BTreeSet<LockKey>,
    /// The page of them that is under way.
    retracting: BTreeSet<LockKey>,
    /// Jobs with a key of that page: they are enrolled after it.
    held: Vec<JobName>,
}

impl Keys {
    /// A job has been added.
    pub(crate) fn add(&mut self, job: Declares<'_>) {
        if job.shares_a_key() {
            self.shared.entry(job.key.clone()).or_default().insert(job.job.clone());
        }
    }

    /// A job has been removed, or gets another definition.
    pub(crate) fn remove(&mut self, job: Declares<'_>) {
        if let Some(jobs) = self.shared.get_mut(job.key) {
            jobs.remove(job.job);
            if jobs.is_empty() {
                self.shared.remove(job.key);
            }
        }
    }

    /// Whether some job has a key that is not its own name.
    pub(crate) fn are_shared(&self) -> bool {
        !self.shared.is_empty()
    }

    /// The jobs with this key whose names are other ones.
    pub(crate) fn jobs_of(&self, key: &LockKey) -> impl Iterator<Item = &JobName> {
        self.shared.get(key).into_iter().flatten()
    }

    /// These are to be taken back, unless this node still fires a job with them.
    pub(crate) fn retract(&mut self, keys: impl IntoIterator<Item = LockKey>) {
        self.to_retract.extend(keys);
    }

    /// The next page to be taken back: at most `max` keys, none if one is under way. Of a key with which
    /// `is_fired` finds a job nothing is taken back.
    pub(crate) fn next_page(
        &mut self,
        max: usize,
        mut is_fired: impl FnMut(&Self, &LockKey) -> bool,
    ) -> Vec<LockKey> {
        if !self.retracting.is_empty() {
            return Vec::new();
        }
        while self.retracting.len() < max
            && let Some(key) = self.to_retract.pop_first()
        {
            if !is_fired(self, &key) {
                self.retracting.insert(key);
            }
        }
        self.retracting.iter().cloned().collect()
    }

    /// The store has answered, or it failed: the page, to be taken back again if it did, and the jobs that
    /// waited for it.
    pub(crate) fn retracted(&mut self) -> (BTreeSet<LockKey>, Vec<JobName>) {
        (mem::take(&mut self.retracting), mem::take(&mut self.held))
    }

    /// The key is being taken back.
    pub(crate) fn is_retracting(&self, key: &LockKey) -> bool {
        self.retracting.contains(key)
    }

    /// Whether the enrolment of a job with this key has to wait: then it comes back when it can go on.
    pub(crate) fn hold(&mut self, key: &LockKey, job: &JobName) -> bool {
        let holds = self.is_retracting(key);
        if holds {
            self.held.push(job.clone());
        }
        holds
    }

    /// Enrolments wait for keys that are being taken back.
    pub(crate) fn holds_jobs(&self) -> bool {
        !self.held.is_empty()
    }

    /// What a session declared ends with it.
    pub(crate) fn on_disconnected(&mut self) {
        self.to_retract.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str) -> JobName {
        JobName::new(name).unwrap()
    }

    fn key(name: &str) -> LockKey {
        LockKey::new(name).unwrap()
    }

    fn keys(names: &[&str]) -> Vec<LockKey> {
        names.iter().map(|name| key(name)).collect()
    }

    const QUEUE: Overlap = Overlap::Queue(2);

    /// The names of jobs that contradict the first with their key, or the one that is held: all have the key
    /// `shared`.
    fn contradicting(jobs: &[(&str, Overlap)], held: Option<Overlap>) -> Vec<String> {
        let named: Vec<_> = jobs.iter().map(|(name, overlap)| (job(name), *overlap)).collect();
        let (shared, holder) = (key("shared"), job("holder"));
        let all = named.iter().map(|(job, overlap)| Declares { job, key: &shared, overlap: *overlap });
        let held = |_: &LockKey| held.map(|overlap| Declares { job: &holder, key: &shared, overlap });
        conflicts(all, held).into_iter().map(|fault| fault.subject).collect()
    }

    #[test]
    fn jobs_with_one_key_follow_the_first_of_them() {
        let one = ("a", Overlap::Skip);
        for (jobs, held, expected) in [
            (vec![one], None, vec![]),
            (vec![one, ("b", Overlap::Skip)], None, vec![]),
            (vec![one, ("b", QUEUE)], None, vec!["b"]),
            (vec![one, ("b", QUEUE), ("c", Overlap::Skip)], None, vec!["b"]),
            (vec![one, ("b", QUEUE)], Some(Overlap::Skip), vec!["b"]),
            (vec![one, ("b", QUEUE)], Some(QUEUE), vec!["a"]),
        ] {
            let expected: Vec<_> =
                expected.iter().map(|job| format!("job {job:?}: overlap policy")).collect();
            assert_eq!(contradicting(&jobs, held), expected, "{jobs:?}, held {held:?}");
        }
    }

    #[test]
    fn keys_are_taken_back_page_by_page_and_one_page_at_a_time() {
        let mut all = Keys::default();
        all.retract(keys(&["c", "a", "b"]));

        assert_eq!(all.next_page(2, |_, _| false), keys(&["a", "b"]));
        assert_eq!(all.next_page(2, |_, _| false), [], "one is under way");
        let (page, _) = all.retracted();

        assert!(page.into_iter().eq(keys(&["a", "b"])));
        assert_eq!(all.next_page(2, |_, _| false), keys(&["c"]));
    }

    #[test]
    fn a_key_with_which_a_job_is_fired_is_not_taken_back() {
        let mut all = Keys::default();
        all.retract(keys(&["fired", "idle"]));

        assert_eq!(all.next_page(1, |_, key| key.as_str() == "fired"), keys(&["idle"]));

        all.retracted();
        assert_eq!(all.next_page(1, |_, _| false), [], "it is not asked again");
    }

    #[test]
    fn a_job_waits_only_while_its_own_key_is_taken_back() {
        let mut all = Keys::default();
        all.retract(keys(&["a"]));

        assert!(!all.hold(&key("a"), &job("early")), "it is not under way yet");
        all.next_page(9, |_, _| false);
        assert!(all.hold(&key("a"), &job("waits")));
        assert!(!all.hold(&key("b"), &job("other")));
        assert!(all.holds_jobs());

        assert_eq!(all.retracted().1, [job("waits")]);
        assert!(!all.holds_jobs() && !all.hold(&key("a"), &job("late")));
    }

    #[test]
    fn what_a_session_declared_is_not_taken_back_after_it() {
        let mut all = Keys::default();
        all.retract(keys(&["a"]));

        all.on_disconnected();

        assert_eq!(all.next_page(9, |_, _| false), []);
    }

    #[test]
    fn only_jobs_whose_key_is_another_name_are_listed_for_it() {
        let mut all = Keys::default();
        let (shared, own) = (key("shared"), key("own"));
        let [one, other, named] = ["one", "other", "own"].map(job);
        for (job, key) in [(&one, &shared), (&other, &shared), (&named, &own)] {
            all.add(Declares { job, key, overlap: Overlap::Skip });
        }

        all.remove(Declares { job: &one, key: &shared, overlap: Overlap::Skip });

        assert!(all.jobs_of(&shared).eq([&other]));
        assert_eq!(all.jobs_of(&own).count(), 0);
    }
}
