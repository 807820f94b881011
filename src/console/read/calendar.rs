//! What fires when, in buckets: bounded in jobs, in fire times and in time.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::web::{Json, Query};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    super::{
        Shared,
        access::{Caller, Reads},
        cache::Cache,
        problem::Problem,
        view::span,
    },
    given,
};
use crate::handle::Callsheet;

/// The most jobs that are asked.
const JOBS_MAX: usize = 2_000;
/// How many jobs are asked at once.
const AT_ONCE: usize = 32;
/// How many fire times a job is asked for first, and then.
const COUNTS: [usize; 2] = [32, 1_000];
/// For how long jobs are asked.
const TIME_MAX: Duration = Duration::from_secs(3);
/// For how long a calendar is good enough, unless something is changed here.
const AGE_MAX: Duration = Duration::from_secs(5);
const BUCKETS_MAX: usize = 200;
const BUCKET_MIN: Duration = Duration::from_mins(5);
const BUCKET_MAX: Duration = Duration::from_hours(24);
/// How many jobs of a bucket are named.
const NAMED_MAX: usize = 10;

/// Which time.
#[derive(Debug, Clone, PartialEq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AskedCalendar {
    /// From when on; now, if it is left out. What has passed is not shown.
    from: Option<DateTime<Utc>>,
    /// Default: 24.
    #[param(minimum = 1, maximum = 168)]
    hours: Option<u32>,
    /// The length of a bucket, `5m` to `24h`. Default: `1h`.
    bucket: Option<String>,
}

/// Calendars of a moment ago, by their questions, and after how many changes.
pub(crate) type Calendars = Cache<(AskedCalendar, u64), Arc<CalendarAnswer>>;

/// What fires when.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CalendarAnswer {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    bucket: String,
    buckets: Vec<BucketView>,
    /// Jobs with so many fire times that not all were counted.
    frequent: Vec<FrequentView>,
    /// How many jobs fire in this time.
    jobs: usize,
    /// Not all jobs were asked: they are too many, or it took too long.
    cut: bool,
}

/// A part of the time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BucketView {
    at: DateTime<Utc>,
    /// How many fire times there are.
    count: u64,
    /// The busiest jobs, at most ten.
    jobs: Vec<BusyView>,
}

/// A job in a bucket.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BusyView {
    job: String,
    count: u64,
}

/// A job that fires often.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FrequentView {
    job: String,
    /// How far its fire times are apart, on the average.
    every: String,
    /// From then on they are estimated.
    counted_to: DateTime<Utc>,
}

struct Window {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    bucket: TimeDelta,
    counts: Vec<HashMap<String, u64>>,
    frequent: Vec<FrequentView>,
    jobs: usize,
}

impl Window {
    fn place(&self, at: DateTime<Utc>) -> Option<usize> {
        let after = at.signed_duration_since(self.from).num_milliseconds();
        let place = usize::try_from(after / self.bucket.num_milliseconds().max(1)).ok()?;
        (after >= 0 && place < self.counts.len()).then_some(place)
    }

    fn add(&mut self, job: &str, at: DateTime<Utc>, count: u64) {
        if let Some(place) = self.place(at) {
            *self.counts[place].entry(job.to_owned()).or_default() += count;
        }
    }

    /// The fire times of a job; `may_go_on`: there may be more.
    fn add_job(&mut self, job: &str, fire_times: &[DateTime<Utc>], may_go_on: bool) {
        let within: Vec<_> = fire_times.iter().filter(|at| **at >= self.from && **at < self.to).collect();
        self.jobs += usize::from(!within.is_empty() || may_go_on);
        within.iter().for_each(|at| self.add(job, **at, 1));
        let (Some(first), Some(last)) = (fire_times.first(), fire_times.last()) else { return };
        if may_go_on && *last < self.to {
            let spans = i32::try_from(fire_times.len().saturating_sub(1)).unwrap_or(i32::MAX).max(1);
            let every = (*last - *first) / spans;
            self.estimate(job, *last, every.max(TimeDelta::milliseconds(1)));
        }
    }

    /// What is behind the last fire time that was counted: as it was before.
    fn estimate(&mut self, job: &str, last: DateTime<Utc>, every: TimeDelta) {
        for place in 0..self.counts.len() {
            let start = self.from + self.bucket * i32::try_from(place).unwrap_or(i32::MAX);
            let end = start.checked_add_signed(self.bucket).unwrap_or(self.to).min(self.to);
            let open = end.signed_duration_since(start.max(last));
            let count = open.num_milliseconds() / every.num_milliseconds();
            if let Ok(count @ 1..) = u64::try_from(count) {
                *self.counts[place].entry(job.to_owned()).or_default() += count;
            }
        }
        let every = span(every.to_std().unwrap_or_default());
        self.frequent.push(FrequentView { job: job.to_owned(), every, counted_to: last });
    }

    fn buckets(self) -> Vec<BucketView> {
        let (from, bucket) = (self.from, self.bucket);
        let shown = |(place, counts): (usize, HashMap<String, u64>)| {
            let count = counts.values().sum();
            let mut jobs: Vec<_> = counts.into_iter().map(|(job, count)| BusyView { job, count }).collect();
            jobs.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.job.cmp(&other.job)));
            jobs.truncate(NAMED_MAX);
            BucketView { at: from + bucket * i32::try_from(place).unwrap_or(i32::MAX), count, jobs }
        };
        self.counts.into_iter().enumerate().map(shown).collect()
    }
}

/// The fire times of a job up to an instant, and whether there may be more.
async fn fire_times(jobs: &Callsheet, job: &str, to: DateTime<Utc>) -> (Vec<DateTime<Utc>>, bool) {
    for count in COUNTS {
        // It was removed, or does not answer.
        let Ok(fire_times) = jobs.next_fire_times(job, count).await else { break };
        let is_all = fire_times.len() < count || fire_times.last().is_some_and(|last| *last >= to);
        if is_all || count == COUNTS[1] {
            return (fire_times, !is_all);
        }
    }
    (Vec::new(), false)
}

/// An instant, moved back to where a bucket begins: counted from midnight UTC, as far as the length divides a day.
fn aligned(at: DateTime<Utc>, bucket: TimeDelta) -> DateTime<Utc> {
    let into = at.timestamp_millis().rem_euclid(bucket.num_milliseconds().max(1));
    let into = TimeDelta::milliseconds(into)
        + TimeDelta::nanoseconds(i64::from(at.timestamp_subsec_nanos() % 1_000_000));
    at.checked_sub_signed(into).unwrap_or(at)
}

fn window(asked: &AskedCalendar) -> Result<Window, Problem> {
    let now = Utc::now();
    let hours = given::within("hours", asked.hours, 24, (1, 168))?;
    let bucket = given::duration("bucket", asked.bucket.as_deref().unwrap_or("1h"))?;
    let bucket = TimeDelta::from_std(bucket.clamp(BUCKET_MIN, BUCKET_MAX)).unwrap_or(TimeDelta::hours(1));
    let from = aligned(asked.from.unwrap_or(now).max(now), bucket);
    let to = from.checked_add_signed(TimeDelta::hours(hours.into()));
    let to = to.ok_or_else(|| Problem::invalid("`from` is too far away"))?;
    let (span, length) = ((to - from).num_milliseconds(), bucket.num_milliseconds());
    let count = span.div_euclid(length) + i64::from(span % length != 0);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count > BUCKETS_MAX {
        return Err(Problem::invalid(format!(
            "it would be {count} buckets; at most {BUCKETS_MAX} are answered"
        )));
    }
    let counts = (0..count).map(|_| HashMap::new()).collect();
    Ok(Window { from, to, bucket, counts, frequent: Vec::new(), jobs: 0 })
}

/// What fires when in the next hours or days, by the schedules of this node. Paused jobs are left out.
#[utoipa::path(get, path = "/api/calendar", params(AskedCalendar),
    responses((status = 200, body = CalendarAnswer)))]
pub(crate) async fn calendar(
    caller: Caller<Reads, Query<AskedCalendar>>,
) -> Result<Json<Arc<CalendarAnswer>>, Problem> {
    let (asked, shared) = (caller.input.into_inner(), &caller.shared);
    let key = (asked.clone(), shared.board.changes());
    let drawn = async || drawn(window(&asked)?, shared).await.map(Arc::new);
    Ok(Json(shared.calendars.get_in_turn(&shared.heavy, key, AGE_MAX, drawn).await?))
}

async fn drawn(mut window: Window, shared: &Shared) -> Result<CalendarAnswer, Problem> {
    let (started, snapshot) = (Instant::now(), shared.board.snapshot().await?);
    let due = snapshot.rows.values().filter_map(|row| Some((row.next_fire_time?, row)));
    let mut due: Vec<_> = due.filter(|(next, row)| *next < window.to && row.pause.is_none()).collect();
    due.sort_unstable_by_key(|(next, _)| *next);
    let mut cut = due.len() > JOBS_MAX;
    due.truncate(JOBS_MAX);
    for some in due.chunks(AT_ONCE) {
        if started.elapsed() > TIME_MAX {
            cut = true;
            break;
        }
        let to = window.to;
        let asked = some.iter().map(|(_, row)| fire_times(&shared.jobs, &row.name, to));
        for ((_, row), (fire_times, may_go_on)) in some.iter().zip(join_all(asked).await) {
            window.add_job(&row.name, &fire_times, may_go_on);
        }
    }
    let (from, to, jobs) = (window.from, window.to, window.jobs);
    let bucket = span(window.bucket.to_std().unwrap_or_default());
    let frequent = std::mem::take(&mut window.frequent);
    Ok(CalendarAnswer { from, to, bucket, buckets: window.buckets(), frequent, jobs, cut })
}
