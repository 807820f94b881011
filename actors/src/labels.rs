//! Which `name` label the metrics of a job have.
//!
//! A series, once made, stays in the recorder for the life of the process. So two numbers are bounded: how
//! many labels are in use at once, and how many there ever were. The label of a removed job is free for
//! another one; a job that comes back under a former label goes on with its series.

use std::{
    ops::Deref,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use foldhash::{HashMap, HashMapExt};

/// The label of every job that finds no label free.
pub const JOB_LABEL_OTHER: &str = "_other";
/// The label of jobs that fire once and have no label of their own.
pub const JOB_LABEL_ONCE: &str = "_once";
/// How many times the labels that may be in use at once there may ever be in one process.
pub const JOB_LABELS_EVER_FACTOR: usize = 4;

/// The label that a job is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Label<'a> {
    /// One of its own, or of a group: if one is free.
    Own(&'a str),
    /// That of all jobs that fire once.
    Once,
}

/// The labels of one process, each with its series.
pub(crate) struct Labels<T> {
    /// The most that are in use at once.
    max: usize,
    in_use: Arc<AtomicUsize>,
    /// Every label that there was, but those that are shared by all.
    known: HashMap<Arc<str>, Known<T>>,
    other: Option<Arc<Labelled<T>>>,
    /// Somebody has found no label free.
    exceeded: bool,
    once: Option<Arc<Labelled<T>>>,
}

/// A label that there is.
struct Known<T> {
    series: Arc<T>,
    user: Weak<Labelled<T>>,
    /// It is never free.
    kept: Option<Arc<Labelled<T>>>,
}

/// The series of a label, which is in use for as long as this is held.
pub(crate) struct Labelled<T> {
    series: Arc<T>,
    /// `None` for a label that is shared by all.
    in_use: Option<Arc<AtomicUsize>>,
}

impl<T> Labelled<T> {
    /// It is no label that is shared by all that have none of their own.
    pub(crate) fn is_own(&self) -> bool {
        self.in_use.is_some()
    }
}

impl<T> Deref for Labelled<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.series
    }
}

impl<T> Drop for Labelled<T> {
    fn drop(&mut self) {
        if let Some(in_use) = &self.in_use {
            in_use.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl<T> Labels<T> {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, in_use: Arc::default(), known: HashMap::new(), other: None, exceeded: false, once: None }
    }

    /// The series of a label, or of that of all others if none is free.
    ///
    /// A label that `keeps` its place is not free again when its jobs are removed: those that the application
    /// starts with come back, and an alert watches them.
    pub(crate) fn of(
        &mut self,
        label: Label<'_>,
        keeps: bool,
        make: impl FnOnce(&str) -> T,
    ) -> Arc<Labelled<T>> {
        match label {
            Label::Once | Label::Own(JOB_LABEL_ONCE) => shared(&mut self.once, JOB_LABEL_ONCE, make),
            Label::Own(label) if label != JOB_LABEL_OTHER && self.has_room_for(label) => {
                self.use_label(label, keeps, make)
            }
            Label::Own(_) => {
                self.exceeded = true;
                self.other(make)
            }
        }
    }

    /// The series of a label that there was, else of that of all others. It is not in use by this.
    pub(crate) fn known(&mut self, label: &str, make: impl FnOnce(&str) -> T) -> Arc<T> {
        match self.known.get(label) {
            Some(known) => known.series.clone(),
            None => self.other(make).series.clone(),
        }
    }

    /// Whether somebody has found no label free.
    pub(crate) fn are_exceeded(&self) -> bool {
        self.exceeded
    }

    /// One that there was costs no series.
    fn has_room_for(&self, label: &str) -> bool {
        let ever_max = self.max.saturating_mul(JOB_LABELS_EVER_FACTOR);
        let has_room = self.in_use.load(Ordering::Relaxed) < self.max && self.known.len() < ever_max;
        has_room || self.known.contains_key(label)
    }

    fn use_label(&mut self, label: &str, keeps: bool, make: impl FnOnce(&str) -> T) -> Arc<Labelled<T>> {
        if !self.known.contains_key(label) {
            let known = Known { series: Arc::new(make(label)), user: Weak::new(), kept: None };
            self.known.insert(label.into(), known);
        }
        let known = self.known.get_mut(label).expect("invariant: it was put there if it was not");
        let user = known.user.upgrade().unwrap_or_else(|| {
            self.in_use.fetch_add(1, Ordering::Relaxed);
            let user = Labelled { series: known.series.clone(), in_use: Some(self.in_use.clone()) };
            let user = Arc::new(user);
            known.user = Arc::downgrade(&user);
            user
        });
        if keeps {
            known.kept = Some(user.clone());
        }
        user
    }

    fn other(&mut self, make: impl FnOnce(&str) -> T) -> Arc<Labelled<T>> {
        shared(&mut self.other, JOB_LABEL_OTHER, make)
    }
}

fn shared<T>(
    label: &mut Option<Arc<Labelled<T>>>,
    name: &str,
    make: impl FnOnce(&str) -> T,
) -> Arc<Labelled<T>> {
    let made = || Arc::new(Labelled { series: Arc::new(make(name)), in_use: None });
    label.get_or_insert_with(made).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Labels whose series are their texts.
    fn labels(max: usize) -> Labels<String> {
        Labels::new(max)
    }

    fn own(labels: &mut Labels<String>, label: &str) -> Arc<Labelled<String>> {
        labels.of(Label::Own(label), false, str::to_owned)
    }

    #[test]
    fn so_many_labels_are_in_use_at_once_and_the_others_share_one() {
        let mut labels = labels(2);

        let used = ["a", "b", "c", "a", "d"].map(|label| own(&mut labels, label));

        assert_eq!(used.map(|label| label.to_string()), ["a", "b", "_other", "a", "_other"]);
        assert!(labels.are_exceeded());
    }

    #[test]
    fn the_label_of_a_removed_job_is_free_for_another() {
        let mut labels = labels(2);
        let (a, b) = (own(&mut labels, "a"), own(&mut labels, "b"));
        let a_again = own(&mut labels, "a");

        drop(a);
        assert_eq!(**own(&mut labels, "c"), "_other", "a is in use by another job");
        drop(a_again);
        let c = own(&mut labels, "c");

        assert_eq!((b.as_str(), c.as_str()), ("b", "c"));
        assert_eq!(**own(&mut labels, "d"), "_other");
    }

    #[test]
    fn whoever_comes_back_goes_on_with_its_series() {
        let mut labels = labels(1);
        let a = own(&mut labels, "a").series.clone();

        let b = own(&mut labels, "b");
        let a_again = own(&mut labels, "a");

        assert_eq!(b.as_str(), "b");
        assert!(Arc::ptr_eq(&a, &a_again.series), "its series is there: it costs nothing");
        assert!(Arc::ptr_eq(&a, &labels.known("a", str::to_owned)));
    }

    #[test]
    fn what_the_application_starts_with_keeps_its_label() {
        let mut labels = labels(2);
        drop(labels.of(Label::Own("nightly"), true, str::to_owned));

        let reminders: Vec<_> = (0..3).map(|nth| own(&mut labels, &nth.to_string())).collect();

        assert_eq!(
            reminders.iter().map(|label| label.as_str()).collect::<Vec<_>>(),
            ["0", "_other", "_other"]
        );
        assert_eq!(**own(&mut labels, "nightly"), "nightly");
    }

    #[test]
    fn the_labels_of_a_process_are_bounded_however_often_they_are_free_again() {
        let mut labels = labels(10);

        let given = (0..100_000).map(|nth| own(&mut labels, &nth.to_string()).to_string());
        let own_labels = given.filter(|label| label != JOB_LABEL_OTHER).count();

        assert_eq!(own_labels, 10 * JOB_LABELS_EVER_FACTOR);
        assert_eq!(labels.known.len(), own_labels);
    }

    #[test]
    fn jobs_that_fire_once_share_a_label_and_take_none() {
        let mut labels = labels(1);

        let once: Vec<_> = (0..10).map(|_| labels.of(Label::Once, true, str::to_owned)).collect();

        assert!(once.iter().all(|label| label.as_str() == "_once"));
        assert_eq!(**own(&mut labels, "a"), "a");
        assert_eq!(**own(&mut labels, "_once"), "_once", "a job of this name shares it");
        assert_eq!(**own(&mut labels, "_other"), "_other");
    }

    #[test]
    fn jobs_of_other_nodes_find_the_label_of_all_others_and_exceed_nothing() {
        let mut labels = labels(1);

        assert_eq!(*labels.known("theirs", str::to_owned), "_other");
        assert!(!labels.are_exceeded());
        let _a = own(&mut labels, "a");
        assert!(!labels.are_exceeded());

        own(&mut labels, "b");
        assert!(labels.are_exceeded());
    }

    #[test]
    fn without_labels_all_share_one() {
        assert_eq!(**own(&mut labels(0), "a"), "_other");
    }
}
