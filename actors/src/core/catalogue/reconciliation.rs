//! What a node does so that it holds the jobs that the catalogue has: pages of the catalogue in, what to do out.
//!
//! A node lists all jobs once, and then reads the changes after the version that it knows. What comes twice, or late,
//! changes nothing: each row has a version, and an older one is not taken. A node that was cut off for so long that
//! changes are forgotten lists all jobs anew, and lets go of those that are not there any more. Of one-shots it reads
//! those that are near: see [`OneShots`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};

use super::{
    CatalogueChanges, CataloguePage, CatalogueRow, DuePage, DueQuery,
    one_shots::{AskDue, OneShots, place},
};
use crate::name::{JobName, LockKey};

/// The most one-shots that a node cannot run, and remembers to say so. Of others it says nothing.
const IDLE_ONE_SHOTS_MAX: usize = 1_000;

/// What the shell is to ask the catalogue next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    /// The page of jobs after this name.
    List { after: Option<Arc<str>> },
    /// The changes after this version.
    Changes { after: u64 },
    /// One-shots.
    Due(DueQuery),
    /// A job that was blocked, once more.
    Again { job: JobName },
}

/// Why a node cannot run a job beside its other ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blocked {
    pub(crate) reason: Arc<str>,
    /// The lock key of the job. It may run once this, or its name, is free.
    pub(crate) key: LockKey,
}

/// How a stored job stands on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is one of the node's jobs.
    Held,
    /// Its definition says that it is not to run.
    Disabled,
    /// This node cannot run it, for this reason.
    Parked(Arc<str>),
    /// It cannot run it beside its other jobs.
    Blocked(Box<Blocked>),
    /// It is no job, but overrides the schedule of one of code.
    Overrides,
}

impl Standing {
    /// Why this node cannot run it.
    pub(crate) fn reason(&self) -> Option<&Arc<str>> {
        match self {
            Self::Parked(reason) => Some(reason),
            Self::Blocked(blocked) => Some(&blocked.reason),
            Self::Held | Self::Disabled | Self::Overrides => None,
        }
    }
}

/// What the shell has read in the definition of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Read {
    /// A job that this node can run.
    Runnable,
    /// A job that is not to run.
    Disabled,
    /// Nothing that this node can run, for this reason.
    Unusable(Arc<str>),
    /// Nothing that it can run beside its other jobs.
    Blocked(Box<Blocked>),
    /// No job: it overrides the schedule of one of code.
    Overrides,
}

/// What is to be done with a job of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// It is added.
    Add,
    /// It gets another definition.
    Update,
    /// It is removed.
    Remove,
    /// Nothing.
    Leave,
}

#[derive(Debug)]
struct Known {
    version: u64,
    standing: Standing,
    /// When it is due, if it is a one-shot.
    due_at: Option<DateTime<Utc>>,
}

impl Known {
    fn is_idle_one_shot(&self) -> bool {
        self.due_at.is_some() && self.standing != Standing::Held
    }
}

/// What a node knows of the catalogue.
#[derive(Debug, Default)]
pub(crate) struct Reconciliation {
    known: BTreeMap<Arc<str>, Known>,
    /// Up to which all changes are known; `None`: the jobs are to be listed.
    version: Option<u64>,
    /// The newest that was known: the store was set back if it has an older one.
    newest: u64,
    listing: Option<Listing>,
    one_shots: OneShots,
    /// How many one-shots are known that the node does not hold.
    idle_one_shots: usize,
    /// The jobs that are blocked, and whether they are to be read again.
    blocked: BTreeMap<Arc<str>, bool>,
}

/// All jobs are being listed.
#[derive(Debug)]
struct Listing {
    /// Of the first page: changes after it are read when the last page is there.
    version: u64,
    seen: BTreeSet<Arc<str>>,
    next: Option<Arc<str>>,
}

impl Reconciliation {
    /// What to ask next.
    pub(crate) fn ask(&self) -> Ask {
        match (self.version, &self.listing) {
            (Some(after), None) => Ask::Changes { after },
            (_, Some(listing)) => Ask::List { after: listing.next.clone() },
            (None, None) => Ask::List { after: None },
        }
    }

    /// Takes in a page of all jobs. Answers the rows that are news, and the jobs that are not there any more.
    pub(crate) fn listed(&mut self, page: CataloguePage) -> (Vec<CatalogueRow>, Vec<Arc<str>>) {
        let CataloguePage { rows, next, version } = page;
        if self.listing.is_none() {
            self.one_shots.walk_anew();
            self.compare_newest(version);
        }
        let new = || Listing { version, seen: BTreeSet::new(), next: None };
        let listing = self.listing.get_or_insert_with(new);
        listing.seen.extend(rows.iter().map(|row| row.job.clone()));
        listing.next = next;
        let mut gone = Vec::new();
        if listing.next.is_none()
            && let Some(listing) = self.listing.take()
        {
            self.version = Some(listing.version);
            // One-shots are not listed: see `due`.
            let is_gone =
                |(job, known): &(&Arc<str>, &Known)| known.due_at.is_none() && !listing.seen.contains(*job);
            gone = self.known.iter().filter(is_gone).map(|(job, _)| job.clone()).collect();
        }
        (self.news(rows), gone)
    }

    /// A store that was set back gives versions once more: what is known by them is read anew.
    fn compare_newest(&mut self, version: u64) {
        if version < self.newest {
            self.known.values_mut().for_each(|known| known.version = 0);
        }
        self.newest = version;
    }

    /// Takes in changes. Answers the rows that are news: those that are to be put, and the jobs that were deleted.
    pub(crate) fn changed(&mut self, changes: CatalogueChanges) -> (Vec<CatalogueRow>, Vec<Arc<str>>) {
        let CatalogueChanges::Rows(rows) = changes else {
            (self.version, self.listing) = (None, None);
            return (Vec::new(), Vec::new());
        };
        self.version = self.version.max(rows.iter().map(|row| row.version).max());
        self.newest = self.newest.max(self.version.unwrap_or_default());
        let (put, deleted): (Vec<_>, Vec<_>) =
            self.news(rows).into_iter().partition(|row| row.definition.is_some());
        let mut gone: Vec<_> = deleted.into_iter().map(|row| row.job).collect();
        let mut near = Vec::with_capacity(put.len());
        for row in put {
            match place(&row) {
                Some(place) if !self.one_shots.is_near(&place) => {
                    self.one_shots.stored_beyond(place.0);
                    gone.push(row.job);
                }
                Some(_) | None => near.push(row),
            }
        }
        gone.retain(|job| self.known.contains_key(job));
        (near, gone)
    }

    /// What to ask about one-shots at `now`, by the store's clock, once all changes are known.
    pub(crate) fn ask_due(&self, now: DateTime<Utc>) -> AskDue {
        match (self.version, &self.listing) {
            (Some(_), None) => self.one_shots.ask(now),
            (None, _) | (_, Some(_)) => AskDue::Never,
        }
    }

    /// Takes in one-shots that are near. Answers the rows that are news.
    pub(crate) fn due(&mut self, query: &DueQuery, page: DuePage) -> Vec<CatalogueRow> {
        let rows = self.one_shots.answered(query, page);
        self.news(rows)
    }

    /// The one-shots that the node is to let go of, once nothing of them is to be asked now: those that are gone, and
    /// those that are too many.
    pub(crate) fn surplus(&mut self, now: DateTime<Utc>) -> Vec<Arc<str>> {
        self.one_shots.set_aside(now);
        let mut surplus = self.one_shots.evict(now);
        if !matches!(self.ask_due(now), AskDue::Now(_)) && self.listing.is_none() {
            surplus.extend(self.one_shots.gone());
        }
        surplus
    }

    /// Since when a one-shot is due that the node does not hold, since it has no room.
    pub(crate) fn one_shots_behind(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.one_shots.behind(now)
    }

    /// Whether it is a one-shot that the node reads when it is near.
    pub(crate) fn is_far(&self, row: &CatalogueRow) -> bool {
        place(row).is_some_and(|place| !self.one_shots.is_near(&place))
    }

    fn news(&self, mut rows: Vec<CatalogueRow>) -> Vec<CatalogueRow> {
        rows.retain(|row| self.known.get(&row.job).is_none_or(|known| known.version < row.version));
        rows
    }

    /// What is to be done with a job in whose row this was read.
    pub(crate) fn act(&self, job: &str, read: &Read) -> Act {
        match (self.is_held(job), read) {
            (false, Read::Runnable) => Act::Add,
            (true, Read::Runnable) => Act::Update,
            (true, Read::Disabled | Read::Unusable(_) | Read::Blocked(_) | Read::Overrides) => Act::Remove,
            (false, Read::Disabled | Read::Unusable(_) | Read::Blocked(_) | Read::Overrides) => Act::Leave,
        }
    }

    /// A job stands like this by its row.
    pub(crate) fn stands(&mut self, row: &CatalogueRow, standing: Standing) {
        self.remove(&row.job);
        let is_held = standing == Standing::Held;
        let known = Known { version: row.version, standing, due_at: row.due_at };
        if known.is_idle_one_shot() {
            if self.idle_one_shots >= IDLE_ONE_SHOTS_MAX {
                return;
            }
            self.idle_one_shots += 1;
        }
        if is_held {
            self.one_shots.hold(row);
        }
        if let Standing::Blocked(_) = known.standing {
            self.blocked.insert(row.job.clone(), false);
        }
        self.known.insert(row.job.clone(), known);
    }

    fn remove(&mut self, job: &str) -> Option<Known> {
        let (job, known) = self.known.remove_entry(job)?;
        self.idle_one_shots -= usize::from(known.is_idle_one_shot());
        self.blocked.remove(&job);
        if let Some(due_at) = known.due_at {
            self.one_shots.let_go(&(due_at, job));
        }
        Some(known)
    }

    /// A job is not there any more. Answers whether the node held it.
    pub(crate) fn forget(&mut self, job: &str) -> bool {
        self.remove(job).is_some_and(|known| known.standing == Standing::Held)
    }

    pub(crate) fn is_held(&self, job: &str) -> bool {
        self.known.get(job).is_some_and(|known| known.standing == Standing::Held)
    }

    /// How a stored job stands, and by which version of it; `None` if the node does not know it.
    pub(crate) fn standing(&self, job: &str) -> Option<(&Standing, u64)> {
        self.known.get(job).map(|known| (&known.standing, known.version))
    }

    /// The jobs that this node cannot run.
    pub(crate) fn parked(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.known.iter().filter_map(|(job, known)| Some((job, known.standing.reason()?)))
    }

    /// Whether some job waits for a name or a key of the node.
    pub(crate) fn has_blocked(&self) -> bool {
        !self.blocked.is_empty()
    }

    /// Names or keys of the node are free: those that waited for one of them are read again. Answers whether there are
    /// some.
    pub(crate) fn freed(&mut self, is_free: impl Fn(&str, &LockKey) -> bool) -> bool {
        let mut any = false;
        for (job, again) in &mut self.blocked {
            if let Some(Known { standing: Standing::Blocked(blocked), .. }) = self.known.get(job)
                && is_free(job, &blocked.key)
            {
                (*again, any) = (true, true);
            }
        }
        any
    }

    /// A job that is to be read again, once nothing else is to be asked.
    pub(crate) fn ask_again(&mut self) -> Option<Ask> {
        let (None, Some(_)) = (&self.listing, self.version) else { return None };
        let (job, again) = self.blocked.iter_mut().find(|(_, again)| **again)?;
        let name = JobName::new(job).ok();
        // No node reads a row whose name is none.
        *again &= name.is_some();
        name.map(|job| Ask::Again { job })
    }

    /// Takes in the row of a job that was read again. Answers it, unless something newer is known.
    pub(crate) fn again(&mut self, job: &str, row: Option<CatalogueRow>) -> Vec<CatalogueRow> {
        let Some(again) = self.blocked.get_mut(job) else { return Vec::new() };
        *again = false;
        let known = self.known.get(job).map_or(0, |known| known.version);
        // That it was deleted is among the changes.
        row.into_iter().filter(|row| row.version >= known).collect()
    }

    /// Up to which version all changes are known.
    pub(crate) fn version(&self) -> Option<u64> {
        self.version
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn row(job: &str, version: u64) -> CatalogueRow {
        let definition = Some("{}".into());
        CatalogueRow { definition, ..CatalogueRow::new(job, version, DateTime::UNIX_EPOCH) }
    }

    fn deleted(job: &str, version: u64) -> CatalogueRow {
        CatalogueRow { definition: None, ..row(job, version) }
    }

    fn page(rows: Vec<CatalogueRow>, next: Option<&str>, version: u64) -> CataloguePage {
        CataloguePage { rows, next: next.map(Into::into), version }
    }

    /// Holds all of the rows.
    fn hold(machine: &mut Reconciliation, rows: &[CatalogueRow]) {
        rows.iter().for_each(|row| machine.stands(row, Standing::Held));
    }

    fn names((rows, gone): (Vec<CatalogueRow>, Vec<Arc<str>>)) -> (Vec<String>, Vec<String>) {
        let rows = rows.iter().map(|row| format!("{}@{}", row.job, row.version)).collect();
        (rows, gone.iter().map(ToString::to_string).collect())
    }

    fn told(rows: &[&str], gone: &[&str]) -> (Vec<String>, Vec<String>) {
        let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
        (owned(rows), owned(gone))
    }

    /// Knows a and b as of version 2.
    fn listed() -> Reconciliation {
        let mut machine = Reconciliation::default();
        let (rows, _) = machine.listed(page(vec![row("a", 1), row("b", 2)], None, 2));
        hold(&mut machine, &rows);
        machine
    }

    #[test]
    fn all_jobs_are_listed_page_by_page_and_then_the_changes_are_read() {
        let mut machine = Reconciliation::default();
        assert_eq!(machine.ask(), Ask::List { after: None });

        assert_eq!(names(machine.listed(page(vec![row("a", 1)], Some("a"), 2))), told(&["a@1"], &[]));
        assert_eq!(machine.ask(), Ask::List { after: Some("a".into()) });
        // Between the pages something was changed.
        assert_eq!(names(machine.listed(page(vec![row("b", 3)], None, 3))), told(&["b@3"], &[]));

        assert_eq!(machine.ask(), Ask::Changes { after: 2 }, "those of the first page's version on");
    }

    #[test]
    fn what_is_read_twice_or_late_changes_nothing() {
        let mut machine = listed();

        let rows = || CatalogueChanges::Rows(vec![row("b", 2), row("a", 3)]);
        let (news, _) = machine.changed(rows());
        hold(&mut machine, &news);

        assert_eq!(names((news, Vec::new())), told(&["a@3"], &[]));
        assert_eq!(names(machine.changed(rows())), told(&[], &[]));
        assert_eq!(machine.ask(), Ask::Changes { after: 3 });
    }

    #[test]
    fn a_deleted_job_is_let_go_of_once() {
        let mut machine = listed();

        let gone = machine.changed(CatalogueChanges::Rows(vec![deleted("a", 3), deleted("x", 4)]));

        assert_eq!(names(gone), told(&[], &["a"]), "of the other one nothing was known");
        assert!(machine.forget("a") && !machine.forget("a"));
    }

    #[test]
    fn a_node_that_was_cut_off_too_long_lists_anew_and_lets_go_of_what_is_gone() {
        let mut machine = listed();

        machine.changed(CatalogueChanges::Forgotten);
        assert_eq!(machine.ask(), Ask::List { after: None });
        let news = machine.listed(page(vec![row("b", 2), row("c", 9)], None, 9));

        assert_eq!(names(news), told(&["c@9"], &["a"]));
        assert_eq!(machine.ask(), Ask::Changes { after: 9 });
    }

    #[test]
    fn what_a_store_has_that_was_set_back_is_read_anew_whatever_was_known() {
        let mut machine = listed();
        let (news, _) = machine.changed(CatalogueChanges::Rows(vec![row("b", 3), row("c", 4)]));
        hold(&mut machine, &news);

        machine.changed(CatalogueChanges::Forgotten);
        // Version 3 is another change now, and nobody has made a fourth yet.
        let news = machine.listed(page(vec![row("a", 1), row("b", 3), row("d", 2)], None, 3));
        hold(&mut machine, &news.0);

        assert_eq!(names(news), told(&["a@1", "b@3", "d@2"], &["c"]));
        machine.forget("c");
        let news = machine.changed(CatalogueChanges::Rows(vec![row("c", 4)]));
        assert_eq!(names(news), told(&["c@4"], &[]));
    }

    fn key(key: &str) -> LockKey {
        LockKey::new(key).expect("a good key")
    }

    #[test]
    fn what_is_blocked_is_read_again_once_its_name_or_key_is_free_and_nothing_else() {
        let mut machine = listed();
        machine.stands(&row("a", 1), Standing::Parked("no such task".into()));
        let blocked = |of: &str| {
            Standing::Blocked(Box::new(Blocked { reason: "another one has it".into(), key: key(of) }))
        };
        for (job, version, of) in [("b", 2, "b"), ("c", 3, "shared"), ("d", 4, "shared")] {
            machine.stands(&row(job, version), blocked(of));
        }
        assert!(!machine.freed(|job, of| job == "a" || *of == key("a")), "that one is not blocked");
        assert_eq!(machine.ask_again(), None);

        assert!(machine.freed(|_, of| *of == key("shared")));
        assert_eq!(machine.ask(), Ask::Changes { after: 2 }, "the others are not listed");
        let asked: Vec<_> = std::iter::from_fn(|| match machine.ask_again()? {
            Ask::Again { job } => {
                let version = if job.as_str() == "c" { 3 } else { 1 };
                Some((job.to_string(), machine.again(job.as_str(), Some(row(job.as_str(), version))).len()))
            }
            other => panic!("{other:?}"),
        })
        .collect();

        assert_eq!(asked, [("c".to_owned(), 1), ("d".to_owned(), 0)], "of d something newer is known");
        assert!(machine.freed(|job, _| job == "b"));
        machine.forget("b");
        assert_eq!((machine.ask_again(), machine.again("b", None)), (None, Vec::new()));
    }

    #[test]
    fn what_is_done_depends_on_what_is_held_and_what_is_read() {
        let mut machine = listed();
        machine.stands(&row("b", 2), Standing::Parked("no such task".into()));
        let unusable = Read::Unusable("no such task".into());
        let table = [
            ("a", Read::Runnable, Act::Update),
            ("a", Read::Disabled, Act::Remove),
            ("a", unusable.clone(), Act::Remove),
            ("a", Read::Overrides, Act::Remove),
            ("new", Read::Overrides, Act::Leave),
            ("b", Read::Runnable, Act::Add),
            ("b", Read::Disabled, Act::Leave),
            ("b", unusable.clone(), Act::Leave),
            ("new", Read::Runnable, Act::Add),
            ("new", unusable, Act::Leave),
        ];

        for (job, read, act) in table {
            assert_eq!(machine.act(job, &read), act, "{job} {read:?}");
        }
        assert_eq!(machine.parked().count(), 1);
    }
}
