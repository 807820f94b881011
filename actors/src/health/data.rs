//! A problem as data.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{FAILING_CURE, FailingJob, NO_SESSION, OverdueJob, Part, Problem, ProblemJobs};
use crate::{core::operation::Operation, name::JobName, starts::BodyThreads};

/// The JSON of a [`Problem`].
#[derive(Serialize, Deserialize)]
#[serde(expecting = "a problem of a node")]
struct Shown<'a> {
    problem: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    part: Option<Part>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    threads: Option<BodyThreads>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    operation: Option<Operation>,
    reason: Cow<'a, str>,
    cure: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jobs: Option<Cow<'a, [JobName]>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    overdue: Option<Cow<'a, [OverdueJob]>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failing: Option<Cow<'a, [FailingJob]>>,
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let reason = match self {
            Self::OperationFailing { reason, .. } => Cow::Borrowed(&**reason),
            _ => self.reason(),
        };
        let (last, count) = match self {
            Self::OperationFailing { last, count, .. } => (Some(*last), Some(*count)),
            Self::Overdue { count, .. } | Self::Failing { count, .. } => (None, Some(*count as u64)),
            _ => (None, None),
        };
        let jobs = match self {
            Self::TicksUndecided { jobs, .. }
            | Self::Broken { jobs }
            | Self::Parked { jobs }
            | Self::StoredParked { jobs }
            | Self::Conflicting { jobs } => Some(jobs),
            _ => None,
        };
        let (overdue, failing) = match self {
            Self::Overdue { jobs, .. } => (Some(jobs.as_slice().into()), None),
            Self::Failing { jobs, .. } => (None, Some(jobs.as_slice().into())),
            _ => (None, None),
        };
        let part = match self {
            Self::Stalled { part, .. } => Some(*part),
            _ => None,
        };
        let threads = match self {
            Self::BodiesBlocked { threads, .. } => Some(*threads),
            _ => None,
        };
        let shown = Shown {
            problem: self.name().into(),
            part,
            threads,
            operation: self.operation(),
            reason,
            cure: self.cure().into(),
            since: self.since(),
            last,
            count: count.or_else(|| jobs.map(|jobs| jobs.count as u64)),
            jobs: jobs.map(|jobs| jobs.first.as_slice().into()),
            overdue,
            failing,
        };
        shown.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Problem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fn there<T, E: de::Error>(field: Option<T>, name: &'static str) -> Result<T, E> {
            field.ok_or_else(|| E::missing_field(name))
        }
        let shown = Shown::deserialize(deserializer)?;
        let since = || there(shown.since, "since");
        let counted = |count| -> Result<usize, D::Error> {
            // The node that counted them may have wider words than this one.
            Ok(usize::try_from(there::<u64, _>(count, "count")?).unwrap_or(usize::MAX))
        };
        let jobs = || -> Result<ProblemJobs, D::Error> {
            let first = there(shown.jobs.as_deref(), "jobs")?.to_vec();
            Ok(ProblemJobs { first, count: counted(shown.count)? })
        };
        Ok(match &*shown.problem {
            "stalled" => Self::Stalled { part: there(shown.part, "part")?, since: since()? },
            "shutting_down" => Self::ShuttingDown,
            "no_session" => {
                let told = shown.reason.strip_prefix(NO_SESSION).and_then(|rest| rest.strip_prefix(": "));
                Self::NoSession { reason: told.map(str::to_owned), since: since()? }
            }
            "store_silent" => Self::StoreSilent { since: since()? },
            "obstructed" => Self::Obstructed {
                reason: shown.reason.into_owned(),
                cure: shown.cure.into_owned(),
                since: since()?,
            },
            "lease_too_short" => Self::LeaseTooShort { reason: shown.reason.into_owned(), since: since()? },
            "no_leader" => Self::NoLeader { since: since()? },
            "operation_failing" => Self::OperationFailing {
                operation: there(shown.operation, "operation")?,
                reason: shown.reason.into_owned(),
                cure: (shown.cure != FAILING_CURE).then(|| shown.cure.into_owned()),
                since: there(shown.since, "since")?,
                last: there(shown.last, "last")?,
                count: there(shown.count, "count")?,
            },
            "ticks_undecided" => Self::TicksUndecided { jobs: jobs()?, since: since()? },
            "ticks_undecided_on_leader" => Self::TicksUndecidedOnLeader { since: since()? },
            "overdue" => Self::Overdue {
                jobs: there(shown.overdue, "overdue")?.into_owned(),
                count: counted(shown.count)?,
            },
            "failing" => Self::Failing {
                jobs: there(shown.failing, "failing")?.into_owned(),
                count: counted(shown.count)?,
            },
            "undecided" => Self::Undecided { since: since()? },
            "broken" => Self::Broken { jobs: jobs()? },
            "parked" => Self::Parked { jobs: jobs()? },
            "stored_parked" => Self::StoredParked { jobs: jobs()? },
            "one_shots_behind" => Self::OneShotsBehind { since: since()? },
            "conflicting" => Self::Conflicting { jobs: jobs()? },
            "bodies_blocked" => {
                Self::BodiesBlocked { threads: there(shown.threads, "threads")?, since: since()? }
            }
            other => {
                let other = de::Unexpected::Str(other);
                return Err(de::Error::invalid_value(other, &"the name of a problem"));
            }
        })
    }
}
