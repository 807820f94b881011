//! Whether the store decides what is due.

use chrono::{DateTime, Utc};

use super::JobMachine;
use crate::core::time::FireTime;

/// What becomes of the mark of a job whose due tick the store does not decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OverdueMark {
    /// It stays as it is, set or not.
    Keep,
    /// The job is marked from now on, for this tick.
    Set(FireTime),
    /// Something is decided.
    Remove,
}

impl OverdueMark {
    /// Of a job that is marked since its cursor stood at `marked_at`, or is not marked.
    pub(crate) fn of(machine: &JobMachine, marked_at: Option<DateTime<Utc>>) -> Self {
        if marked_at.is_none() && !machine.asks_in_vain() {
            // Most steps: nothing is looked at.
            return Self::Keep;
        }
        Self::decide(machine.asked_tick(), machine.cursor(), marked_at)
    }

    fn decide(
        asked: Option<(FireTime, bool)>,
        cursor: DateTime<Utc>,
        marked_at: Option<DateTime<Utc>>,
    ) -> Self {
        match (asked, marked_at) {
            (None | Some((_, false)), None) => Self::Keep,
            (Some((tick, true)), None) => Self::Set(tick),
            // Another tick, perhaps, but nothing is decided.
            (Some(_), Some(marked_at)) if marked_at == cursor => Self::Keep,
            (None | Some(_), Some(_)) => Self::Remove,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::job::tests::at;

    #[test]
    fn a_job_is_marked_from_a_vain_question_until_its_cursor_moves() {
        let tick = FireTime::new(at("02:00"));
        let (asked, in_vain) = (Some((tick, false)), Some((tick, true)));
        for (question, marked_at, mark) in [
            (None, None, OverdueMark::Keep),
            (asked, None, OverdueMark::Keep),
            (in_vain, None, OverdueMark::Set(tick)),
            (None, Some("01:00"), OverdueMark::Remove),
            (asked, Some("01:00"), OverdueMark::Keep),
            (in_vain, Some("01:00"), OverdueMark::Keep),
            (asked, Some("00:30"), OverdueMark::Remove),
            (in_vain, Some("00:30"), OverdueMark::Remove),
        ] {
            let found = OverdueMark::decide(question, at("01:00"), marked_at.map(at));

            assert_eq!(found, mark, "{question:?} {marked_at:?}");
        }
    }
}
