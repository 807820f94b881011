//! What the answers of several engines are together.

use std::cmp::{Ordering, Reverse};

use chrono::{DateTime, Utc};

use crate::{
    core::backfill::BackfillStatus,
    error::BackfillError,
    message::{JobPage, SkippedMissed},
    name::{JobName, RunId},
    port::{Gaps, HistoryError, PageStart, RunPage},
};

/// What is said of a job.
pub(super) trait OfJob {
    fn job(&self) -> &JobName;
}

impl OfJob for JobName {
    fn job(&self) -> &JobName {
        self
    }
}

impl OfJob for (JobName, RunId) {
    fn job(&self) -> &JobName {
        &self.0
    }
}

impl OfJob for SkippedMissed {
    fn job(&self) -> &JobName {
        &self.job
    }
}

/// What is said of jobs, in the order of their names. What one engine refused is refused.
pub(super) fn of_jobs<T: OfJob, E>(answers: Vec<Result<Vec<T>, E>>) -> Result<Vec<T>, E> {
    let mut all: Vec<T> = answers.into_iter().collect::<Result<Vec<_>, E>>()?.into_iter().flatten().collect();
    all.sort_by(|one, other| one.job().cmp(other.job()));
    Ok(all)
}

/// The answers of the engines whose stores keep what is asked about. Others answer nothing, unless all do.
pub(super) fn kept<T: Default, E>(
    answers: Vec<Result<T, E>>,
    is_not_kept: impl Fn(&E) -> bool,
) -> Result<Vec<T>, E> {
    let is_kept = answers.iter().any(|answer| !answer.as_ref().is_err_and(&is_not_kept));
    let answers = answers.into_iter().map(|answer| match answer {
        Err(error) if is_kept && is_not_kept(&error) => Ok(T::default()),
        answer => answer,
    });
    answers.collect()
}

/// The pages of the histories that there are.
pub(super) fn pages<P: Default>(answers: Vec<Result<P, HistoryError>>) -> Result<Vec<P>, HistoryError> {
    kept(answers, |error| matches!(error, HistoryError::NotKept { .. }))
}

/// In the order of their ids.
pub(super) fn backfills(
    answers: Vec<Result<Vec<BackfillStatus>, BackfillError>>,
) -> Result<Vec<BackfillStatus>, BackfillError> {
    let all = kept(answers, |error| matches!(error, BackfillError::NotKept { .. }))?;
    let mut all: Vec<_> = all.into_iter().flatten().collect();
    all.sort_by_key(|backfill| backfill.id);
    Ok(all)
}

/// The first page of several. Each says nothing of the names behind its end.
pub(super) fn page_of_jobs(pages: Vec<JobPage>, limit: usize) -> JobPage {
    let end = pages.iter().filter_map(|page| page.next.clone()).min();
    let mut jobs: Vec<_> = pages.into_iter().flat_map(|page| page.jobs).collect();
    jobs.retain(|job| end.as_deref().is_none_or(|end| job.name.as_str() <= end));
    jobs.sort_by(|one, other| one.name.cmp(&other.name));
    let is_cut = jobs.len() > limit;
    jobs.truncate(limit);
    let last = jobs.last().map(|job| job.name.as_str().to_owned()).filter(|_| is_cut);
    JobPage { jobs, next: last.or(end) }
}

/// What several histories do not have.
pub(super) fn gaps(all: impl IntoIterator<Item = Gaps>) -> Gaps {
    all.into_iter().fold(Gaps::none(), |one, other| {
        Gaps::new(one.complete_from.max(other.complete_from), one.dropped + other.dropped)
    })
}

/// The newest of the runs of several histories. Each says nothing of the runs before its end.
pub(super) fn page_of_runs(
    pages: Vec<Result<RunPage, HistoryError>>,
    limit: usize,
) -> Result<RunPage, HistoryError> {
    let pages = self::pages(pages)?;
    let gaps = gaps(pages.iter().map(|page| page.gaps));
    let end = pages.iter().filter_map(|page| page.next).max();
    let mut runs: Vec<_> = pages.into_iter().flat_map(|page| page.runs).collect();
    runs.retain(|run| end.is_none_or(|end| run.run >= end));
    runs.sort_by_key(|run| Reverse(run.run));
    let is_cut = runs.len() > limit;
    runs.truncate(limit);
    let last = runs.last().map(|run| run.run).filter(|_| is_cut);
    Ok(RunPage { runs, next: last.or(end), gaps })
}

/// Where a record stands: the newest first, then by its engine.
type Place = (Reverse<DateTime<Utc>>, u8);

/// The newest of the records of several histories.
pub(super) struct Newest<R> {
    pub(super) records: Vec<R>,
    pub(super) next: Next,
}

/// Where the next page starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// There is none.
    Nowhere,
    At(PageStart),
    /// After so many records of an engine that are of this instant, as all records of the page are.
    After {
        engine: u8,
        records: usize,
        at: DateTime<Utc>,
    },
}

impl<R> Newest<R> {
    /// Of the pages of the engines and where each ends, which says nothing of what comes behind. Records of one
    /// instant are in the order of the engines.
    pub(super) fn of(
        pages: Vec<(Vec<R>, Option<PageStart>)>,
        limit: usize,
        at: impl Fn(&R) -> DateTime<Utc>,
    ) -> Self {
        let place = |at: DateTime<Utc>, engine: u8| (Reverse(at), engine);
        let numbered = || (0..).zip(&pages);
        let end = numbered()
            .filter_map(|(engine, (_, next))| next.map(|next| PageStart { backend: engine, ..next }))
            .min_by_key(|end| place(end.at, end.backend));
        let sizes: Vec<_> = numbered().map(|(_, (records, next))| (records.len(), *next)).collect();
        let mut all: Vec<(_, R)> = (0..)
            .zip(pages)
            .flat_map(|(engine, (records, _))| records.into_iter().map(move |record| (engine, record)))
            .map(|(engine, record)| (place(at(&record), engine), record))
            .filter(|(of, _)| end.is_none_or(|end| *of <= place(end.at, end.backend)))
            .collect();
        // It keeps the order of the records of an engine.
        all.sort_by_key(|(place, _)| *place);
        let is_cut = all.len() > limit;
        all.truncate(limit);
        let next = match all.last().map(|(place, _)| *place).filter(|_| is_cut) {
            Some(last) => Self::cut(&mut all, last, &sizes),
            // All is here that comes before the first end, also if nothing of it could be read.
            None => end.map_or(Next::Nowhere, Next::At),
        };
        Self { records: all.into_iter().map(|(_, record)| record).collect(), next }
    }

    /// Where the page ends that had too many records.
    fn cut(
        all: &mut Vec<(Place, R)>,
        (Reverse(at), engine): Place,
        sizes: &[(usize, Option<PageStart>)],
    ) -> Next {
        let kept = all.iter().filter(|((_, of), _)| *of == engine).count();
        match sizes.get(usize::from(engine)) {
            Some((size, Some(next))) if *size == kept => {
                return Next::At(PageStart { backend: engine, ..*next });
            }
            // It has no more.
            Some((size, None)) if *size == kept => {
                return Next::At(PageStart { at, nth: i64::MIN, backend: engine });
            }
            Some(_) | None => {}
        }
        let newer = all.partition_point(|((Reverse(of), _), _)| *of > at);
        if newer == 0 {
            return Next::After { engine, records: kept, at };
        }
        // Those of the last instant are all on the next page: its place needs no number.
        all.truncate(newer);
        Next::At(PageStart { at, nth: i64::MAX, backend: 0 })
    }
}

impl PageStart {
    /// Where the records of an engine go on.
    pub(super) fn of_engine(self, engine: u8) -> Self {
        let nth = match engine.cmp(&self.backend) {
            // Those of this instant come before.
            Ordering::Less => i64::MIN,
            Ordering::Equal => self.nth,
            Ordering::Greater => i64::MAX,
        };
        Self { at: self.at, nth, backend: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).expect("an instant")
    }

    /// The page of a history whose records have these seconds, the newest first; the number of a record is its place
    /// from the end. One whose second is negative cannot be read.
    fn page(seconds: &[i64], before: Option<PageStart>, limit: usize) -> (Vec<i64>, Option<PageStart>) {
        let numbered = (0..seconds.len()).rev().map(|nth| i64::try_from(nth).expect("few"));
        let admitted = |(second, nth): &(&i64, i64)| {
            before.is_none_or(|before| (at(second.abs()), *nth) < (before.at, before.nth))
        };
        let all: Vec<_> = seconds.iter().zip(numbered).filter(admitted).collect();
        let some = &all[..all.len().min(limit)];
        let next = some.last().filter(|_| all.len() > limit);
        let next = next.map(|(second, nth)| PageStart { at: at(second.abs()), nth: *nth, backend: 0 });
        (some.iter().map(|(second, _)| **second).filter(|second| *second >= 0).collect(), next)
    }

    /// All records of several histories, read in pages.
    fn read(histories: &[&[i64]], limit: usize) -> Vec<i64> {
        let (mut all, mut before) = (Vec::new(), None::<PageStart>);
        loop {
            let of = |engine: u8| before.map(|before| before.of_engine(engine));
            let pages = (0..).zip(histories).map(|(engine, history)| page(history, of(engine), limit));
            let newest = Newest::of(pages.collect(), limit, |second| at(*second));
            assert!(newest.records.len() <= limit);
            all.extend(newest.records);
            before = Some(match newest.next {
                Next::Nowhere => return all,
                Next::At(start) => start,
                Next::After { engine, records, at } => {
                    // Newer ones have come meanwhile.
                    let grown = [&[100, 99, 98], histories[usize::from(engine)]].concat();
                    let to =
                        PageStart { at: at + chrono::TimeDelta::microseconds(1), nth: i64::MIN, backend: 0 };
                    let of = of(engine).filter(|of| of.at <= at).unwrap_or(to);
                    let (_, next) = page(&grown, Some(of), records);
                    PageStart { backend: engine, ..next.expect("there are more") }
                }
            });
        }
    }

    #[test]
    fn pages_of_several_histories_have_each_record_once_and_the_newest_first() {
        let histories: [&[&[i64]]; 8] = [
            &[&[9, 7, 5, 3], &[8, 6, 4, 2, 1]],
            &[&[5, 5, 5, 5], &[5, 5, 5], &[5]],
            &[&[], &[3, 3, 1]],
            &[&[9, 9, 2], &[9, 2, 2], &[9, 2]],
            &[&[4, 4], &[4]],
            // Not all can be read.
            &[&[-9, -8, -7, 3, 2], &[6, 5, 1]],
            &[&[-9, -8, -7], &[]],
            &[&[9, -8, 7, -6, 5, -4], &[-10, 3, 2]],
        ];
        for histories in histories {
            let mut expected: Vec<_> = histories
                .iter()
                .flat_map(|history| history.iter().copied())
                .filter(|second| *second >= 0)
                .collect();
            expected.sort_by_key(|second| Reverse(*second));
            for limit in 1..=10 {
                assert_eq!(read(histories, limit), expected, "{histories:?} in pages of {limit}");
            }
        }
    }
}
