//! The list of jobs: filtered, sorted, page by page.

use std::{cmp::Ordering, collections::BTreeSet};

use actix_web::web::{Json, Query};
use callsheet_actors::JobState;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    super::{
        access::{Caller, Reads},
        board::{Snapshot, overdue_counts},
        problem::Problem,
        view::Row,
    },
    given,
};

/// How many jobs a page has that does not say how many.
const PAGE_DEFAULT: usize = 100;
/// The most jobs of a page.
const PAGE_MAX: usize = 1_000;
/// The longest text to search for, in bytes.
const SEARCH_BYTES_MAX: usize = 200;
/// The most tags, and the most tasks, that are listed for the filters.
const FACETS_MAX: usize = 200;

/// Which jobs.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Filter {
    /// A part of the name, of a tag or of the schedule, whatever the case.
    #[schema(max_length = 200)]
    pub(crate) search: Option<String>,
    /// A state, or `failing`, or `overdue`.
    pub(crate) state: Option<String>,
    pub(crate) tag: Option<String>,
    pub(crate) task: Option<String>,
}

/// Which jobs, in which order.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Asked {
    /// A part of the name, of a tag or of the schedule, whatever the case.
    #[param(max_length = 200)]
    search: Option<String>,
    /// A state, or `failing`, or `overdue`.
    state: Option<String>,
    tag: Option<String>,
    task: Option<String>,
    /// By what: `name`, `next`, `state`, `failures`, `last`. Default: `name`.
    #[param(value_type = Option<String>)]
    sort: Option<Sort>,
    /// `asc` or `desc`. Default: `asc`.
    #[param(value_type = Option<String>)]
    order: Option<Order>,
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// The `next` of the page before.
    after: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Sort {
    Name,
    Next,
    State,
    Failures,
    Last,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    Asc,
    Desc,
}

/// A page of jobs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobsAnswer {
    jobs: Vec<Row>,
    /// How many jobs the node has.
    total: usize,
    /// How many of them pass the filter.
    matched: usize,
    next: Option<String>,
    /// How many expectations are not met of jobs that are not named: such jobs are not shown as overdue.
    overdue_unnamed: usize,
    as_of: DateTime<Utc>,
    /// The tags that there are, on the first page.
    tags: Vec<String>,
    /// The tasks that there are, on the first page.
    tasks: Vec<String>,
}

/// What a state that is asked for means.
enum Wanted {
    Any,
    State(JobState),
    Failing,
    Overdue,
}

/// A filter that can be used.
pub(crate) struct Matcher {
    search: Option<String>,
    state: Wanted,
    tag: Option<String>,
    task: Option<String>,
}

impl Filter {
    pub(crate) fn matcher(self) -> Result<Matcher, Problem> {
        let Self { search, state, tag, task } = self;
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let search = given(search).map(|search| search.to_lowercase());
        if search.as_ref().is_some_and(|search| search.len() > SEARCH_BYTES_MAX) {
            return Err(Problem::invalid(format!("`search` has at most {SEARCH_BYTES_MAX} bytes")));
        }
        let state = match state.as_deref() {
            None | Some("") => Wanted::Any,
            Some("failing") => Wanted::Failing,
            Some("overdue") => Wanted::Overdue,
            Some(state) => Wanted::State(given::word("state", state)?),
        };
        Ok(Matcher { search, state, tag: given(tag), task: given(task) })
    }
}

impl Matcher {
    pub(crate) fn admits(&self, row: &Row) -> bool {
        let has = |text: &str, part: &str| text.to_lowercase().contains(part);
        let is_found = |part: &String| {
            has(&row.name, part) || row.tags.iter().any(|tag| has(tag, part)) || has(&row.schedule, part)
        };
        let is_in_state = match self.state {
            Wanted::Any => true,
            Wanted::State(state) => row.state == state,
            Wanted::Failing => row.is_failing(),
            Wanted::Overdue => row.overdue,
        };
        is_in_state
            && self.tag.as_ref().is_none_or(|tag| row.tags.contains(tag))
            && self.task.as_ref().is_none_or(|task| row.task.as_ref() == Some(task))
            && self.search.as_ref().is_none_or(is_found)
    }
}

impl Sort {
    /// What a job is sorted by, before its name.
    fn key(self, row: &Row) -> i64 {
        let millis = |at: Option<DateTime<Utc>>| at.map_or(i64::MAX, |at| at.timestamp_millis());
        match self {
            Self::Name => 0,
            Self::Next => millis(row.next_fire_time),
            Self::State => row.state as i64,
            Self::Failures => i64::from(row.failures),
            Self::Last => millis(row.last_runs.first().map(|run| run.started_at)),
        }
    }
}

/// Where a page starts: after the job with this key and name. The key is text, as it may be beyond 2^53.
type Place = (String, String);

fn page<'a>(snapshot: &'a Snapshot, matcher: &Matcher, sort: Sort, order: Order) -> Vec<(i64, &'a Row)> {
    let rows = snapshot.rows.values().filter(|row| matcher.admits(row));
    let mut rows: Vec<_> = rows.map(|row| (sort.key(row), row)).collect();
    let turned = |ordering: Ordering| if order == Order::Desc { ordering.reverse() } else { ordering };
    rows.sort_unstable_by(|one, other| turned((one.0, &one.1.name).cmp(&(other.0, &other.1.name))));
    rows
}

/// One page of the jobs of this node.
#[utoipa::path(get, path = "/api/jobs", params(Asked),
    responses((status = 200, body = JobsAnswer)))]
pub(crate) async fn jobs(caller: Caller<Reads, Query<Asked>>) -> Result<Json<JobsAnswer>, Problem> {
    let Asked { search, state, tag, task, sort, order, limit, after } = caller.input.into_inner();
    let limit = given::within("limit", limit, PAGE_DEFAULT, (1, PAGE_MAX))?;
    let (sort, order) = (sort.unwrap_or(Sort::Name), order.unwrap_or(Order::Asc));
    let matcher = Filter { search, state, tag, task }.matcher()?;
    let after = match given::cursor::<Place>(after.as_deref())? {
        Some((key, name)) => {
            Some((key.parse::<i64>().map_err(|_| Problem::invalid("`after` is no cursor"))?, name))
        }
        None => None,
    };
    let snapshot = caller.shared.board.snapshot().await?;
    let rows = page(&snapshot, &matcher, sort, order);
    let matched = rows.len();
    let wanted = if order == Order::Desc { Ordering::Less } else { Ordering::Greater };
    let follows = |(key, row): &(i64, &Row)| {
        let after = after.as_ref();
        after.is_none_or(|(place, name)| (*key, &row.name).cmp(&(*place, name)) == wanted)
    };
    let mut rest = rows.into_iter().filter(follows);
    let shown: Vec<_> = rest.by_ref().take(limit).collect();
    let next = shown.last().filter(|_| rest.next().is_some());
    let next = next.and_then(|(key, row)| serde_json::to_string(&(key.to_string(), &row.name)).ok());
    let (tags, tasks) = if after.is_none() { facets(&snapshot) } else { Default::default() };
    Ok(Json(JobsAnswer {
        jobs: shown.into_iter().map(|(_, row)| row.clone()).collect(),
        total: snapshot.rows.len(),
        matched,
        next,
        overdue_unnamed: overdue_counts(&snapshot.health).1,
        as_of: snapshot.as_of,
        tags,
        tasks,
    }))
}

/// The first tags and tasks in their order.
fn facets(snapshot: &Snapshot) -> (Vec<String>, Vec<String>) {
    let rows = || snapshot.rows.values();
    let first = |all: BTreeSet<&String>| all.into_iter().take(FACETS_MAX).cloned().collect();
    (
        first(rows().flat_map(|row| &row.tags).collect()),
        first(rows().filter_map(|row| row.task.as_ref()).collect()),
    )
}
