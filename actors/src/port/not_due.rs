//! Why a schedule does not fire at an instant at which one might expect it to.

use std::fmt;

use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// Why an instant is not a fire time, though the rule names it: see
/// [`Schedule::why_not`](super::Schedule::why_not).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "snake_case")]
#[non_exhaustive]
pub enum NotDue {
    /// The civil time that is meant does not exist: the clocks of the zone skip it.
    Gap {
        /// What the clocks would have shown.
        meant: NaiveDateTime,
        /// The zone.
        timezone: String,
        /// The fire time that stands for it; `None` if it is left out.
        instead: Option<DateTime<Utc>>,
    },
    /// The clocks of the zone show the civil time twice, and the other one is meant.
    Fold {
        /// What the clocks show.
        meant: NaiveDateTime,
        /// The zone.
        timezone: String,
        /// The other one.
        instead: DateTime<Utc>,
    },
    /// A calendar leaves it out.
    Calendar {
        /// The calendar.
        name: String,
    },
    /// The schedule starts later.
    NotStarted {
        /// When.
        starting_at: DateTime<Utc>,
    },
    /// The schedule has ended.
    Ended {
        /// From then on.
        until: DateTime<Utc>,
    },
    /// Fire times count from the end of the job's runs: only what is recorded tells the former ones.
    AfterCompletion,
    /// The fire time is delayed by the schedule's jitter.
    Jitter {
        /// Until then.
        to: DateTime<Utc>,
    },
}

/// `02:30 does not exist in America/New_York on 2026-03-08: the clocks skip it`.
impl fmt::Display for NotDue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |instant: &DateTime<Utc>| instant.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        match self {
            Self::Gap { meant, timezone, instead } => {
                let (day, time) = (meant.date(), meant.time());
                write!(f, "{time} does not exist in {timezone} on {day}: the clocks skip it")?;
                match instead {
                    Some(instead) => write!(f, ", and the schedule fires at {} instead", text(instead)),
                    None => f.write_str(", and the schedule leaves it out"),
                }
            }
            Self::Fold { meant, timezone, instead } => {
                let (day, time) = (meant.date(), meant.time());
                write!(
                    f,
                    "the clocks of {timezone} show {time} twice on {day}, and the schedule means the other one: {}",
                    text(instead)
                )
            }
            Self::Calendar { name } => write!(f, "the calendar {name:?} leaves it out"),
            Self::NotStarted { starting_at } => write!(f, "the schedule starts at {}", text(starting_at)),
            Self::Ended { until } => write!(f, "the schedule ended at {}", text(until)),
            Self::AfterCompletion => f.write_str("its fire times count from the end of its runs"),
            Self::Jitter { to } => write!(f, "its jitter delays it until {}", text(to)),
        }
    }
}
