//! What ran and what did not over a time, for plots, and who led.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix_web::web::{Json, Query};
use callsheet_actors::{
    Decision, Decisions, HISTORY_PAGE_MAX, Outcome, RunHistory, RunRecord, port::DecisionRecord,
};
use chrono::{DateTime, TimeDelta, Utc};
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

/// How many pages of the history are read, of runs and of decisions each.
const PAGES_MAX: usize = 10;
const BUCKETS_MAX: i64 = 500;
/// For how long a plot is good enough.
const AGE_MAX: Duration = Duration::from_secs(5);
const SPAN_DEFAULT: TimeDelta = TimeDelta::hours(3);
const SPAN_MAX: TimeDelta = TimeDelta::days(7);
/// A run that starts later than this was late.
const LATE: Duration = Duration::from_secs(1);

/// Which time.
#[derive(Debug, Clone, PartialEq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AskedActivity {
    /// Default: `span` before `to`.
    from: Option<DateTime<Utc>>,
    /// Default: now.
    to: Option<DateTime<Utc>>,
    /// How long before `to` it begins, at most `7d`. Default: `3h`.
    span: Option<String>,
    /// The length of a bucket. Default: `5m`.
    bucket: Option<String>,
}

/// Plots of a moment ago, by their questions.
pub(crate) type Activities = Cache<AskedActivity, Arc<ActivityAnswer>>;

/// What ran and what did not.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ActivityAnswer {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    bucket: String,
    buckets: Vec<ActivityBucket>,
    /// Who led, as far as runs tell it, the earliest first.
    terms: Vec<TermView>,
    /// When nobody led.
    gaps: Vec<GapView>,
    /// Before that not everything is counted; `null`: everything is.
    complete_from: Option<DateTime<Utc>>,
    /// How many records of the time were dropped.
    dropped: u64,
}

/// A part of the time.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct ActivityBucket {
    at: DateTime<Utc>,
    /// Runs that started.
    started: u64,
    /// Of these, those that succeeded.
    succeeded: u64,
    /// Of these, those that failed, panicked, timed out or were lost.
    failed: u64,
    /// Ticks that were skipped.
    skipped: u64,
    /// Of the runs, those that started more than a second late.
    late: u64,
    /// The greatest lateness.
    lateness_max: String,
    #[serde(skip)]
    #[schema(ignore)]
    lateness: Duration,
}

/// A term in which a node led.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TermView {
    term: String,
    node: String,
    /// When its first run started that is known.
    from: DateTime<Utc>,
    /// When its last one did.
    to: DateTime<Utc>,
}

/// A time without a leader.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GapView {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
}

struct Plot {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    bucket: TimeDelta,
    buckets: Vec<ActivityBucket>,
    terms: BTreeMap<u64, TermView>,
    gaps: Vec<GapView>,
    complete_from: Option<DateTime<Utc>>,
    dropped: u64,
}

impl Plot {
    fn new(asked: &AskedActivity) -> Result<Self, Problem> {
        let to = asked.to.unwrap_or_else(Utc::now);
        let span = match (asked.from, asked.span.as_deref()) {
            (Some(_), Some(_)) => return Err(Problem::invalid("give `from` or `span`, and not both")),
            (Some(from), None) => to.signed_duration_since(from),
            (None, Some(span)) => {
                TimeDelta::from_std(given::duration("span", span)?).unwrap_or(TimeDelta::MAX)
            }
            (None, None) => SPAN_DEFAULT,
        };
        let from = to.checked_sub_signed(span).filter(|_| span > TimeDelta::zero() && span <= SPAN_MAX);
        let from = from.ok_or_else(|| Problem::invalid("`from` is before `to`, by at most 7 days"))?;
        let bucket = given::duration("bucket", asked.bucket.as_deref().unwrap_or("5m"))?;
        let bucket = TimeDelta::from_std(bucket).unwrap_or(SPAN_MAX).clamp(TimeDelta::seconds(1), SPAN_MAX);
        let (span, length) = ((to - from).num_milliseconds(), bucket.num_milliseconds());
        let count = span.div_euclid(length) + i64::from(span % length != 0);
        if count > BUCKETS_MAX {
            return Err(Problem::invalid(format!(
                "it would be {count} buckets; at most {BUCKETS_MAX} are answered"
            )));
        }
        let at = |place: i64| from + TimeDelta::milliseconds(length * place);
        let buckets =
            (0..count).map(|place| ActivityBucket { at: at(place), ..Default::default() }).collect();
        let (terms, gaps) = (BTreeMap::new(), Vec::new());
        Ok(Self { from, to, bucket, buckets, terms, gaps, complete_from: None, dropped: 0 })
    }

    fn at(&mut self, at: DateTime<Utc>) -> Option<&mut ActivityBucket> {
        let after = at.signed_duration_since(self.from).num_milliseconds();
        let place = usize::try_from(after.div_euclid(self.bucket.num_milliseconds())).ok()?;
        self.buckets.get_mut(place)
    }

    fn add_run(&mut self, run: &RunRecord) {
        let Some(started_at) = run.started_at else { return };
        if let Some(bucket) = self.at(started_at) {
            bucket.started += 1;
            match run.outcome {
                Some(Outcome::Succeeded) => bucket.succeeded += 1,
                Some(Outcome::Cancelled) | None => {}
                Some(_) => bucket.failed += 1,
            }
            bucket.late += u64::from(run.lateness > LATE);
            bucket.lateness = bucket.lateness.max(run.lateness);
        }
        if let Some(term) = run.term {
            let known = self.terms.entry(term.0).or_insert_with(|| TermView {
                term: term.to_string(),
                node: run.node.to_string(),
                from: started_at,
                to: started_at,
            });
            known.from = known.from.min(started_at);
            known.to = known.to.max(started_at);
        }
    }

    fn add_decision(&mut self, record: &DecisionRecord) {
        match &record.decision {
            Decision::Skipped { count, .. } => {
                let at = record.fire_time.map_or(record.at, |fire_time| fire_time.instant());
                if let Some(bucket) = self.at(at) {
                    bucket.skipped = bucket.skipped.saturating_add(*count);
                }
            }
            Decision::LeaderGap { from, to } => self.gaps.push(GapView { from: *from, to: *to }),
            _ => {}
        }
    }

    fn incomplete_before(&mut self, at: Option<DateTime<Utc>>) {
        self.complete_from = self.complete_from.max(at);
    }
}

/// What ran and what did not over a time, in buckets, and who led. Read from the history: at most 10,000 runs and as
/// many decisions, the newest.
#[utoipa::path(get, path = "/api/activity", params(AskedActivity),
    responses((status = 200, body = ActivityAnswer)))]
pub(crate) async fn activity(
    caller: Caller<Reads, Query<AskedActivity>>,
) -> Result<Json<Arc<ActivityAnswer>>, Problem> {
    let (asked, shared) = (caller.input.into_inner(), &caller.shared);
    let plotted = async || plotted(Plot::new(&asked)?, shared).await.map(Arc::new);
    Ok(Json(shared.activities.get_in_turn(&shared.heavy, asked.clone(), AGE_MAX, plotted).await?))
}

async fn plotted(mut plot: Plot, shared: &Shared) -> Result<ActivityAnswer, Problem> {
    let jobs = &shared.jobs;
    let mut asked = RunHistory::new().from(plot.from).to(plot.to).limit(HISTORY_PAGE_MAX);
    for nth in 1..=PAGES_MAX {
        let page = jobs.runs(asked.clone()).await?;
        page.runs.iter().for_each(|run| plot.add_run(run));
        plot.incomplete_before(page.gaps.complete_from);
        plot.dropped += page.gaps.dropped;
        let Some(next) = page.next else { break };
        if nth == PAGES_MAX {
            plot.incomplete_before(Some(next.made_at()));
        }
        asked = asked.before(next);
    }
    let mut asked = Decisions::new().from(plot.from).to(plot.to).limit(HISTORY_PAGE_MAX);
    for nth in 1..=PAGES_MAX {
        let page = jobs.decisions(asked.clone()).await?;
        page.decisions.iter().for_each(|record| plot.add_decision(record));
        plot.incomplete_before(page.gaps.complete_from);
        let Some(next) = page.next else { break };
        if nth == PAGES_MAX {
            plot.incomplete_before(Some(next.at));
        }
        asked = asked.before(next);
    }
    let Plot { from, to, bucket, mut buckets, terms, gaps, complete_from, dropped } = plot;
    for bucket in &mut buckets {
        bucket.lateness_max = span(bucket.lateness);
    }
    let bucket = span(bucket.to_std().unwrap_or_default());
    let terms = terms.into_values().collect();
    Ok(ActivityAnswer { from, to, bucket, buckets, terms, gaps, complete_from, dropped })
}
