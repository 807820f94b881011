//! The attempts of a run that failed, until the run ends: bounded in count and in bytes.

use std::collections::VecDeque;

use crate::{
    core::{
        end_text::{ERROR_BYTES_MIN, EndText},
        text::bounded,
    },
    port::{ATTEMPTS_RECORDED_MAX, AttemptRecord},
};

/// The most bytes of the errors of the attempts before the last one that are kept of a run. When they are more,
/// those of the oldest attempts are cut to [`ERROR_BYTES_MIN`] bytes each.
pub const ATTEMPT_ERRORS_BYTES_MAX: usize = 64 * 1024;

/// Attempts of one run, the oldest first. The texts that are kept whole take their room among the
/// [errors of a node](crate::WAITING_ERROR_BYTES_MAX).
#[derive(Default)]
pub(crate) struct Attempts(VecDeque<(AttemptRecord, Option<EndText>)>);

impl Attempts {
    /// Takes in one that failed, with its error.
    pub(crate) fn push(&mut self, attempt: AttemptRecord, error: Option<EndText>) {
        if self.0.len() >= ATTEMPTS_RECORDED_MAX {
            self.0.pop_front();
        }
        let error = error.map(|error| match error.len() {
            len if len > ATTEMPT_ERRORS_BYTES_MAX => {
                EndText::from(&*bounded(&*error, ATTEMPT_ERRORS_BYTES_MAX / 2))
            }
            _ => error,
        });
        self.0.push_back((attempt, error));
        let mut bytes: usize = self.errors().map(|error| error.len()).sum();
        for (_, error) in &mut self.0 {
            let Some(error) = error.as_mut().filter(|_| bytes > ATTEMPT_ERRORS_BYTES_MAX) else { continue };
            if error.len() > ERROR_BYTES_MIN {
                let whole = error.len();
                *error = EndText::from(&*bounded(&**error, ERROR_BYTES_MIN));
                bytes = bytes - whole + error.len();
            }
        }
    }

    fn errors(&self) -> impl Iterator<Item = &EndText> {
        self.0.iter().filter_map(|(_, error)| error.as_ref())
    }

    /// As they are recorded.
    pub(crate) fn into_records(self) -> Vec<AttemptRecord> {
        let record = |(attempt, error): (AttemptRecord, Option<EndText>)| AttemptRecord {
            error: error.map(|error| error.share()),
            ..attempt
        };
        self.0.into_iter().map(record).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::DateTime;

    use super::*;
    use crate::event::Outcome;

    #[test]
    fn many_attempts_with_long_errors_keep_the_newest_whole_and_all_within_the_bound() {
        let mut attempts = Attempts::default();
        let error = "é".repeat(10_000);
        for nth in 1..=100 {
            let attempt = AttemptRecord::new(nth, DateTime::UNIX_EPOCH, Duration::ZERO, Outcome::Failed);
            attempts.push(attempt, Some(EndText::from(&*error)));
        }

        let records = attempts.into_records();

        assert_eq!(records.len(), ATTEMPTS_RECORDED_MAX);
        let lens: Vec<_> = records.iter().map(|one| one.error.as_ref().expect("it failed").len()).collect();
        assert!(lens.iter().sum::<usize>() <= ATTEMPT_ERRORS_BYTES_MAX, "{lens:?}");
        assert_eq!(lens.iter().filter(|len| **len == error.len()).count(), 3, "{lens:?}");
        assert!(lens.is_sorted(), "the oldest are cut: {lens:?}");
        assert_eq!(records.last().map(|last| last.attempt), Some(100));
    }

    #[test]
    fn one_error_that_is_longer_than_the_bound_is_cut() {
        let mut attempts = Attempts::default();
        let attempt = AttemptRecord::new(1, DateTime::UNIX_EPOCH, Duration::ZERO, Outcome::Failed);

        attempts.push(attempt, Some(EndText::from(&*"é".repeat(ATTEMPT_ERRORS_BYTES_MAX))));

        let error = attempts.into_records().remove(0).error.expect("it failed");
        assert!(error.len() <= ATTEMPT_ERRORS_BYTES_MAX, "{}", error.len());
    }
}
