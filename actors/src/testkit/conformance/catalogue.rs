//! What every catalogue does.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    name::{By, JobName},
    port::{
        Catalogue, CatalogueChange, CatalogueChanges, CataloguePage, CatalogueQuery, CatalogueRow, Changed,
        DueQuery, Expected,
    },
};

/// So long a change may take to be heard of.
const HEARD_WITHIN: Duration = Duration::from_secs(5);

/// Checks a catalogue that is empty, and another node's view of the same one: what is put is answered whole; of two
/// writers one is told what stands; a change that is asked for twice is made once; pages and filters have each job
/// once; one-shots come in the order of when they are due; who reads the changes misses none, hears that there
/// are some, and is told if the store was set back.
///
/// # Panics
///
/// If a check fails.
pub async fn catalogue(catalogue: Arc<dyn Catalogue>, other: Arc<dyn Catalogue>) {
    let check = Check { catalogue, other };
    check.what_is_put_is_answered_whole().await;
    check.of_two_writers_one_is_told_what_stands().await;
    check.a_change_that_is_asked_for_twice_is_made_once().await;
    check.a_job_that_comes_back_has_a_version_of_its_own().await;
    check.pages_have_each_job_once_in_order().await;
    check.jobs_are_found_by_prefix_tag_task_and_whether_they_are_enabled().await;
    check.one_shots_are_found_by_when_they_are_due().await;
    check.what_is_a_one_shot_no_more_is_not_found_as_one().await;
    check.who_reads_the_changes_misses_none().await;
    check.who_knows_a_version_that_there_is_not_is_told_to_list_anew().await;
    check.many_writers_at_once_get_a_version_each().await;
    check.who_waits_hears_of_a_change().await;
}

struct Check {
    catalogue: Arc<dyn Catalogue>,
    other: Arc<dyn Catalogue>,
}

fn name(job: &str) -> JobName {
    JobName::new(job).expect("a good name")
}

fn definition(task: &str, tags: &str, enabled: bool) -> String {
    format!(
        r#"{{"schedule":{{"every":"1h"}},"task":{{"name":"{task}","arguments":{{"to":"日報 😀 'quoted'; DROP TABLE jobs"}}}},"tags":[{tags}],"enabled":{enabled}}}"#
    )
}

fn put(job: &str) -> CatalogueChange {
    CatalogueChange::put(Uuid::new_v4(), name(job), definition("send", "", true))
}

fn delete(job: &str) -> CatalogueChange {
    CatalogueChange::delete(Uuid::new_v4(), name(job))
}

impl Check {
    async fn change(&self, change: &CatalogueChange) -> Changed {
        self.catalogue.change(change).await.expect("an answer")
    }

    async fn done(&self, change: &CatalogueChange) -> CatalogueRow {
        match self.change(change).await {
            Changed::Done(row) => row,
            other => panic!("{change:?}: {other:?}"),
        }
    }

    async fn get(&self, job: &str) -> Option<CatalogueRow> {
        self.other.get(&name(job)).await.expect("an answer")
    }

    async fn page(&self, query: &CatalogueQuery) -> CataloguePage {
        self.other.list(query).await.expect("an answer")
    }

    /// All changes after a version.
    async fn changes(&self, mut after: u64, limit: usize) -> Vec<CatalogueRow> {
        let mut all = Vec::new();
        loop {
            let CatalogueChanges::Rows(rows) = self.other.changes(after, limit).await.expect("an answer")
            else {
                panic!("they are remembered");
            };
            assert!(rows.len() <= limit, "no more than are asked for");
            let Some(last) = rows.last() else { return all };
            assert!(rows.iter().all(|row| row.version > after) && rows.is_sorted_by_key(|row| row.version));
            after = last.version;
            all.extend(rows);
        }
    }

    async fn version(&self) -> u64 {
        self.page(&CatalogueQuery::default()).await.version
    }

    async fn what_is_put_is_answered_whole(&self) {
        let before = Utc::now();
        let by = By::new("alice").ok();
        let asked = put("whole").by(by.clone());

        let row = self.done(&asked).await;

        assert_eq!(
            (&*row.job, row.definition.as_ref(), &row.changed_by),
            ("whole", asked.definition.as_ref(), &by)
        );
        assert_eq!(row.change, asked.change);
        // By the store's clock, which may be a virtual one.
        assert!(row.changed_at - before < TimeDelta::days(36_500), "{row:?}");
        assert_eq!(self.get("whole").await.as_ref(), Some(&row), "and on another node");
        assert_eq!(self.get("nothing").await, None);

        let gone = self.done(&delete("whole")).await;
        assert!(gone.version > row.version && gone.definition.is_none());
        assert_eq!(self.get("whole").await, None);
        assert_eq!(self.change(&delete("whole")).await, Changed::Elsewhere(None), "it is gone already");
    }

    async fn of_two_writers_one_is_told_what_stands(&self) {
        let first = self.done(&put("two").expecting(Expected::Absent)).await;
        let second = self.change(&put("two").expecting(Expected::Absent)).await;
        assert_eq!(second, Changed::Elsewhere(Some(first.clone())), "it is there");

        let newer = self.done(&put("two").expecting(Expected::Version(first.version))).await;
        for change in [put("two"), delete("two")] {
            let late = self.change(&change.expecting(Expected::Version(first.version))).await;
            assert_eq!(late, Changed::Elsewhere(Some(newer.clone())), "another one came first");
        }
        self.done(&delete("two").expecting(Expected::Version(newer.version))).await;
        let late = self.change(&put("two").expecting(Expected::Version(newer.version))).await;
        assert_eq!(late, Changed::Elsewhere(None), "it was deleted");

        // At one instant.
        let row = self.done(&put("race")).await;
        let changes: Vec<_> = (0..8).map(|_| put("race").expecting(Expected::Version(row.version))).collect();
        let answers = join_all(changes.iter().map(|change| self.change(change))).await;
        let done = answers.iter().filter(|answer| matches!(answer, Changed::Done(_))).count();
        assert_eq!(done, 1, "{answers:?}");
    }

    async fn a_change_that_is_asked_for_twice_is_made_once(&self) {
        let asked = put("twice").expecting(Expected::Absent);
        let row = self.done(&asked).await;
        assert_eq!(self.done(&asked).await, row);

        let asked = delete("twice").expecting(Expected::Version(row.version));
        let gone = self.done(&asked).await;
        assert_eq!(self.done(&asked).await, gone);
    }

    async fn a_job_that_comes_back_has_a_version_of_its_own(&self) {
        let first = self.done(&put("back")).await;
        self.done(&delete("back")).await;
        let again = self.done(&put("back")).await;

        let late = self.change(&put("back").expecting(Expected::Version(first.version))).await;

        assert_eq!(late, Changed::Elsewhere(Some(again)));
    }

    async fn pages_have_each_job_once_in_order(&self) {
        let names: Vec<_> = ["page 10", "page 2", "page Z", "page a", "page é", "page 日", "page ~"].into();
        for name in &names {
            self.done(&put(name)).await;
        }
        let (mut seen, mut after) = (Vec::new(), None);
        for expected in [3, 3, 1] {
            let mut query = CatalogueQuery::default();
            (query.prefix, query.after, query.limit) = (Some("page ".to_owned()), after, 3);
            let page = self.page(&query).await;
            assert_eq!(page.rows.len(), expected);
            seen.extend(page.rows.iter().map(|row| row.job.to_string()));
            after = page.next;
        }
        assert_eq!(after, None, "there is no page after the last");
        let mut sorted: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        sorted.sort();
        assert_eq!(seen, sorted, "by their bytes");
    }

    async fn jobs_are_found_by_prefix_tag_task_and_whether_they_are_enabled(&self) {
        let table = [
            ("find a", "send", r#""mail","night""#, true),
            ("find b", "send", r#""mail""#, false),
            ("find c", "sweep", r#""night""#, true),
            ("other d", "send", r#""mail""#, true),
        ];
        for (job, task, tags, enabled) in table {
            let change = CatalogueChange::put(Uuid::new_v4(), name(job), definition(task, tags, enabled));
            self.done(&change).await;
        }
        let query = |tag: Option<&str>, task: Option<&str>, enabled| {
            let (prefix, tag) = (Some("find ".to_owned()), tag.map(str::to_owned));
            let task = task.map(str::to_owned);
            CatalogueQuery { prefix, tag, task, enabled, ..CatalogueQuery::default() }
        };
        for (query, found) in [
            (query(None, None, None), "abc"),
            (query(Some("mail"), None, None), "ab"),
            (query(Some("night"), Some("sweep"), None), "c"),
            (query(None, Some("send"), Some(true)), "a"),
            (query(None, None, Some(false)), "b"),
            (query(Some("nothing"), None, None), ""),
        ] {
            let page = self.page(&query).await;
            let names: String = page.rows.iter().map(|row| row.job.trim_start_matches("find ")).collect();
            assert_eq!(names, found, "{query:?}");
        }
    }

    /// The one-shots of this prefix that are due before an instant, by pages of two.
    async fn due(&self, prefix: &str, before: DateTime<Utc>) -> Vec<CatalogueRow> {
        let (mut found, mut query) = (Vec::new(), DueQuery::before(before));
        query.limit = 2;
        loop {
            let rows = self.other.due(&query).await.expect("an answer").rows;
            let Some(last) = rows.last() else { break };
            let place = |row: &CatalogueRow| (row.due_at.expect("it is a one-shot"), row.job.clone());
            assert!(rows.len() <= 2 && rows.is_sorted_by_key(place), "{rows:?}");
            assert!(query.after.as_ref().is_none_or(|after| rows.iter().all(|row| place(row) > *after)));
            query.after = Some(place(last));
            found.extend(rows);
        }
        found.retain(|row| row.job.starts_with(prefix));
        found
    }

    async fn one_shots_are_found_by_when_they_are_due(&self) {
        let at = |millis: i64| DateTime::from_timestamp_millis(1_900_000_000_000 + millis).expect("in range");
        // Several at one instant, one before 1970, and one beyond what fits into nanoseconds.
        let far = at(200_000_000_000_000);
        let table = [("due 5", 1), ("due B", 0), ("due a", 0), ("due é", 0), ("due 1", -2_000_000_000_000)];
        let mut put_all: Vec<_> = table.iter().map(|(job, millis)| (*job, at(*millis))).collect();
        put_all.push(("due far", far));
        for (job, due_at) in &put_all {
            let row = self.done(&put(job).due_at(Some(*due_at))).await;
            assert_eq!(row.due_at, Some(*due_at));
            assert_eq!(self.get(job).await, Some(row));
        }
        self.done(&put("due never")).await;
        let names = |rows: &[CatalogueRow]| rows.iter().map(|row| row.job.to_string()).collect::<Vec<_>>();

        let all = self.due("due ", far + TimeDelta::milliseconds(1)).await;
        let early = self.due("due ", at(1)).await;

        assert_eq!(names(&all), ["due 1", "due B", "due a", "due é", "due 5", "due far"]);
        assert!(all.iter().all(|row| row.definition.is_some()));
        assert_eq!(names(&early), ["due 1", "due B", "due a", "due é"], "before that instant");
        for (one_shots, count) in [(Some(true), 6), (Some(false), 1), (None, 7)] {
            let prefix = Some("due ".to_owned());
            let page = self.page(&CatalogueQuery { prefix, one_shots, ..CatalogueQuery::default() }).await;
            assert_eq!(page.rows.len(), count, "{one_shots:?}");
        }
    }

    async fn what_is_a_one_shot_no_more_is_not_found_as_one(&self) {
        let at = |seconds: i64| DateTime::from_timestamp(1_800_000_000 + seconds, 0).expect("in range");
        for job in ["shot deleted", "shot kept", "shot moved", "shot no more"] {
            self.done(&put(job).due_at(Some(at(0)))).await;
        }
        let from = self.version().await;

        self.done(&put("shot moved").due_at(Some(at(10)))).await;
        self.done(&put("shot no more")).await;
        let deleted = self.done(&delete("shot deleted").due_at(Some(at(0)))).await;

        assert_eq!(deleted.due_at, None);
        let due = self.due("shot ", at(100)).await;
        let found: Vec<_> = due.iter().map(|row| (&*row.job, row.due_at)).collect();
        assert_eq!(found, [("shot kept", Some(at(0))), ("shot moved", Some(at(10)))]);
        let changed: Vec<_> =
            self.changes(from, 10).await.iter().map(|row| (row.job.to_string(), row.due_at)).collect();
        let expected = [("shot moved", Some(at(10))), ("shot no more", None), ("shot deleted", None)];
        assert_eq!(changed, expected.map(|(job, due_at)| (job.to_owned(), due_at)), "with when they are due");
    }

    async fn who_reads_the_changes_misses_none(&self) {
        let from = self.version().await;
        let (mut standing, mut newest) = (BTreeMap::new(), 0);
        for nth in 0..30 {
            let job = format!("change {}", nth % 7);
            let change = if nth % 5 == 4 { delete(&job) } else { put(&job) };
            if let Changed::Done(row) = self.change(&change).await {
                assert!(row.version > newest, "versions grow");
                newest = row.version;
                standing.insert(job, row);
            }
        }
        for limit in [1, 4, 1_000] {
            let changes = self.changes(from, limit).await;
            let mut read = BTreeMap::new();
            changes.into_iter().for_each(|row| drop(read.insert(row.job.to_string(), row)));
            assert_eq!(read, standing, "pages of {limit}");
        }
        assert_eq!(self.version().await, newest);
        assert_eq!(self.changes(newest, 10).await, []);
    }

    /// The store was set back since.
    async fn who_knows_a_version_that_there_is_not_is_told_to_list_anew(&self) {
        let newest = self.done(&put("newest")).await.version;
        for after in [newest + 1, newest + 500, u64::MAX] {
            let changes = self.other.changes(after, 10).await;
            assert_eq!(changes, Ok(CatalogueChanges::Forgotten), "after {after}");
        }
        assert_eq!(self.other.changes(newest, 10).await, Ok(CatalogueChanges::Rows(Vec::new())));
    }

    async fn many_writers_at_once_get_a_version_each(&self) {
        let from = self.version().await;
        let changes: Vec<_> = (0..40).map(|nth| put(&format!("many {nth}"))).collect();
        let reading = async {
            // Page by page while they write: whoever goes on from what he has read misses nothing.
            let (mut after, mut seen) = (from, 0);
            while seen < changes.len() {
                let rows = self.changes(after, 7).await;
                after = rows.last().map_or(after, |row| row.version);
                seen += rows.len();
                tokio::task::yield_now().await;
            }
            seen
        };
        let writing = join_all(changes.iter().map(|change| self.done(change)));

        let (rows, seen) = futures_util::future::join(writing, timeout(HEARD_WITHIN, reading)).await;

        let versions: std::collections::BTreeSet<_> = rows.iter().map(|row| row.version).collect();
        assert_eq!((versions.len(), seen), (40, Ok(40)), "each once");
    }

    async fn who_waits_hears_of_a_change(&self) {
        let version = self.version().await;
        let hears = timeout(HEARD_WITHIN, self.other.changed(version));
        let writes = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.done(&put("heard")).await
        };

        let (heard, row) = futures_util::future::join(hears, writes).await;

        heard.expect("it is told");
        timeout(HEARD_WITHIN, self.other.changed(row.version - 1))
            .await
            .expect("what was changed before, as well");
    }
}
