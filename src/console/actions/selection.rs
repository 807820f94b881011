//! Which jobs are meant: the count first, then the deed.

use std::{collections::BTreeSet, hash::Hash};

use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher13};
use utoipa::ToSchema;

use super::super::{BULK_MAX, Shared, problem::Problem, read::Filter};

/// How many names a dry run answers.
const NAMED_MAX: usize = 100;

/// Which jobs: by their names, or by a filter.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, ToSchema)]
#[serde(default)]
pub(crate) struct Selection {
    /// Their names.
    #[schema(max_items = 1000)]
    pub(crate) jobs: Option<Vec<String>>,
    /// Those that pass this filter.
    pub(crate) filter: Option<Filter>,
    /// How many they are, as a dry run has answered; may be left out for one name.
    pub(crate) count: Option<usize>,
    /// Which they are, as a dry run has answered; may be left out for names.
    pub(crate) digest: Option<String>,
    /// Only answers how many they are.
    pub(crate) dry_run: bool,
}

/// What would be done.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DryRun {
    /// Always `true`.
    dry_run: bool,
    count: usize,
    /// The first 100 of them.
    jobs: Vec<String>,
    /// The most jobs of one action.
    max: usize,
    /// Says which they are, all of them: to be sent back.
    digest: String,
}

/// The same for the same things in the same order.
pub(super) fn digest<T: Hash>(things: impl IntoIterator<Item = T>) -> String {
    let mut hasher = SipHasher13::new();
    things.into_iter().for_each(|thing| thing.hash(&mut hasher));
    format!("{:032x}", hasher.finish128().as_u128())
}

/// What is to be done with jobs.
pub(crate) enum Selected {
    DryRun(DryRun),
    Jobs(Vec<String>),
}

impl Selection {
    /// The jobs that are meant.
    pub(crate) async fn select(&self, shared: &Shared) -> Result<Selected, Problem> {
        let (jobs, needs_count) = match (&self.jobs, &self.filter) {
            (Some(names), None) => {
                let names: BTreeSet<_> = names.iter().cloned().collect();
                let needs_count = names.len() > 1;
                (names.into_iter().collect::<Vec<_>>(), needs_count)
            }
            (None, Some(filter)) => {
                let (snapshot, matcher) = (shared.board.fresh().await?, filter.clone().matcher()?);
                let rows = snapshot.rows.values().filter(|row| matcher.admits(row));
                (rows.map(|row| row.name.clone()).collect(), true)
            }
            _ => return Err(Problem::invalid("say which jobs: either `jobs` or `filter`")),
        };
        let (count, digest) = (jobs.len(), digest(&jobs));
        if self.dry_run {
            let jobs = jobs.into_iter().take(NAMED_MAX).collect();
            return Ok(Selected::DryRun(DryRun { dry_run: true, count, jobs, max: BULK_MAX, digest }));
        }
        if count > BULK_MAX {
            let cure = "narrow the filter, or go on part by part";
            return Err(Problem::invalid(format!("{count} jobs are more than {BULK_MAX}")).cure(cure));
        }
        match self.count {
            Some(asked) if asked != count => return Err(Problem::count(Some(asked), count, digest)),
            None if needs_count => return Err(Problem::count(None, count, digest)),
            Some(_) | None if count == 0 => return Err(Problem::invalid("no job is meant")),
            Some(_) | None => {}
        }
        match &self.digest {
            Some(asked) if *asked != digest => Err(Problem::others("jobs", count, digest)),
            None if self.filter.is_some() => Err(Problem::no_digest("jobs", count, digest)),
            Some(_) | None => Ok(Selected::Jobs(jobs)),
        }
    }
}
