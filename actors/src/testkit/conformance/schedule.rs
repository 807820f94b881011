//! What every schedule does.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    core::{
        contract::{self, Breach, MILLISECOND},
        time::FireTime,
    },
    port::{IntoSchedule, Schedule},
};

/// How long one answer may take: an actor that waits for longer has missed much.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// So many fire times in a row are looked at, from each of [`STARTS`].
const IN_A_ROW: usize = 60;
/// So many threads ask at once.
const THREADS: usize = 4;
/// The instants from which fire times in a row are looked at: among them are days on which clocks change.
const STARTS: [&str; 5] = [
    "1970-01-01T00:00:00Z",
    "2026-01-01T00:00:00Z",
    "2026-03-28T12:00:00Z",
    "2026-10-24T12:00:00.000500Z",
    "2096-02-28T23:59:59.999Z",
];
/// What is different if an answer depends on when it was asked, or when the schedule was made.
const A_MOMENT: Duration = Duration::from_millis(3);

/// Checks a schedule: that it answers the same whenever, wherever and by whomever it is asked, that it keeps
/// the rules of [`Schedule`], and that it does so at the ends of time and soon. `make` makes the same
/// schedule each time, as the nodes of a cluster do.
///
/// Of a schedule that [counts from the end of runs](Schedule::counts_from_completion) nobody knows what came
/// before, so `previous_before` may answer that there is none.
///
/// ```
/// use callsheet_actors::testkit::{conformance, fakes::Period};
///
/// conformance::schedule(|| Period::hours(1));
/// ```
///
/// # Panics
///
/// If a rule is broken: the message names it, with the question and the answer.
pub fn schedule<S: IntoSchedule>(make: impl Fn() -> S) {
    if let Err(violation) = check(make, ANSWER_MAX) {
        panic!("{violation}");
    }
}

/// A rule that was broken, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Violation {
    rule: Rule,
    how: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// The definition is a good one.
    Compiles,
    /// Each answer comes soon.
    AnswersSoon,
    /// No question makes it panic, not even one about the ends of time.
    NeverPanics,
    /// The same question has the same answer, again and in any order.
    AnswersTheSameAgain,
    /// So it has when it is asked of another one that is made alike, later.
    AnswersTheSameAfterARestart,
    /// And on another thread.
    AnswersTheSameOnEveryThread,
    /// `next_after` answers something later, `previous_before` something earlier.
    LiesOnTheRightSide,
    /// Every answer is a whole millisecond.
    IsAWholeMillisecond,
    /// A later question has no earlier answer.
    MovesForward,
    /// What one question names the other one knows.
    AgreesWithPreviousBefore,
    /// If it has a period, each fire time is that long after the one before.
    KeepsItsPeriod,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = match self.rule {
            Rule::Compiles => "a schedule can be made",
            Rule::AnswersSoon => "a schedule answers soon",
            Rule::NeverPanics => "a schedule never panics",
            Rule::AnswersTheSameAgain => "a schedule answers the same when it is asked again",
            Rule::AnswersTheSameAfterARestart => {
                "a schedule answers the same after a restart, and on every node"
            }
            Rule::AnswersTheSameOnEveryThread => "a schedule answers the same on every thread",
            Rule::LiesOnTheRightSide => {
                "`next_after` answers something later, `previous_before` something earlier"
            }
            Rule::IsAWholeMillisecond => "a fire time is a whole millisecond",
            Rule::MovesForward => "the answer to a later question is not earlier",
            Rule::AgreesWithPreviousBefore => "`previous_before` and `next_after` know the same fire times",
            Rule::KeepsItsPeriod => "a schedule with a `period` fires once in it",
        };
        write!(f, "{rule}: {}", self.how)
    }
}

impl From<Breach> for Violation {
    fn from(breach: Breach) -> Self {
        let rule = match breach {
            Breach::NotLater { .. } | Breach::NotEarlier { .. } => Rule::LiesOnTheRightSide,
            Breach::Fraction { .. } => Rule::IsAWholeMillisecond,
            Breach::Contradiction { .. } => Rule::AgreesWithPreviousBefore,
        };
        Self { rule, how: breach.to_string() }
    }
}

fn violation<T>(rule: Rule, how: impl Into<String>) -> Result<T, Violation> {
    Err(Violation { rule, how: how.into() })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    NextAfter(DateTime<Utc>),
    PreviousBefore(DateTime<Utc>),
    /// What it says of itself: its text, its zone, its identity, its lints.
    Words,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NextAfter(after) => write!(f, "next_after({after:?})"),
            Self::PreviousBefore(before) => write!(f, "previous_before({before:?})"),
            Self::Words => f.write_str("its text, its zone, its identity and its lints"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    At(Result<Option<FireTime>, Breach>),
    Words(String),
}

fn answer(schedule: &dyn Schedule, question: Question) -> Answer {
    match question {
        Question::NextAfter(after) => Answer::At(contract::next_after(schedule, after)),
        Question::PreviousBefore(before) => Answer::At(contract::previous_before(schedule, before)),
        Question::Words => {
            let lints = schedule.lints(instant(STARTS[1]));
            let (zone, identity) = (schedule.timezone(), schedule.identity());
            Answer::Words(format!("{schedule} in {zone:?}, {identity}, {lints:?}"))
        }
    }
}

/// A schedule on a thread of its own, so that one that never answers, or panics, is told.
struct Asked {
    questions: mpsc::Sender<Question>,
    answers: mpsc::Receiver<Option<Answer>>,
    answer_max: Duration,
}

impl Asked {
    fn new(schedule: Arc<dyn Schedule>, answer_max: Duration) -> Self {
        let (questions, asked) = mpsc::channel();
        let (answered, answers) = mpsc::channel();
        // It ends when nobody asks any more. One that never answers is left behind.
        thread::spawn(move || {
            for question in asked {
                let answer = catch_unwind(AssertUnwindSafe(|| answer(&*schedule, question))).ok();
                if answered.send(answer).is_err() {
                    return;
                }
            }
        });
        Self { questions, answers, answer_max }
    }

    fn ask(&self, question: Question) -> Result<Answer, Violation> {
        // If the thread is gone there is no answer either.
        let _ = self.questions.send(question);
        match self.answers.recv_timeout(self.answer_max) {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => violation(Rule::NeverPanics, format!("it panicked when it was asked for {question}")),
            Err(_) => {
                violation(Rule::AnswersSoon, format!("{question} had no answer within {:?}", self.answer_max))
            }
        }
    }

    fn at(&self, question: Question) -> Result<Option<FireTime>, Violation> {
        match self.ask(question)? {
            Answer::At(answer) => Ok(answer?),
            Answer::Words(_) => Ok(None),
        }
    }

    fn next(&self, after: DateTime<Utc>) -> Result<Option<FireTime>, Violation> {
        self.at(Question::NextAfter(after))
    }

    fn previous(&self, before: DateTime<Utc>) -> Result<Option<FireTime>, Violation> {
        self.at(Question::PreviousBefore(before))
    }
}

fn check<S: IntoSchedule>(make: impl Fn() -> S, answer_max: Duration) -> Result<(), Violation> {
    let make = || {
        let made = make().into_schedule();
        let made = made.or_else(|faults| violation(Rule::Compiles, faults.to_string()))?;
        // As a job does.
        Ok(made.for_job("conformance").unwrap_or(made))
    };
    let first = make()?;
    let asked = Asked::new(first.clone(), answer_max);
    asked.ask(Question::Words)?;
    the_ends_of_time_are_instants_as_well(&asked)?;
    let mut questions = vec![Question::Words];
    for start in STARTS {
        fire_times_in_a_row_obey_the_rules(
            &asked,
            instant(start),
            first.counts_from_completion(),
            &mut questions,
        )?;
        if let Some(period) = first.period() {
            its_period_is_kept(&asked, instant(start), period)?;
        }
    }
    it_answers_the_same_everywhere(&make, &first, &questions, answer_max)
}

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().expect("a constant instant is well formed")
}

fn the_ends_of_time_are_instants_as_well(asked: &Asked) -> Result<(), Violation> {
    let (first, last) = (DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC);
    for end in [first, first + TimeDelta::nanoseconds(1), first + MILLISECOND, last - MILLISECOND, last] {
        asked.next(end)?;
        asked.previous(end)?;
    }
    Ok(())
}

/// Looks at fire times in a row, and notes what it asked.
fn fire_times_in_a_row_obey_the_rules(
    asked: &Asked,
    start: DateTime<Utc>,
    counts_from_completion: bool,
    questions: &mut Vec<Question>,
) -> Result<(), Violation> {
    let mut after = start;
    for _ in 0..IN_A_ROW {
        questions.push(Question::NextAfter(after));
        let Some(next) = asked.next(after)? else {
            return it_has_ended(asked, after, counts_from_completion);
        };
        let tick = next.instant();
        // A moment after the question, and a moment before the answer.
        let moment = (tick - after).min(TimeDelta::microseconds(300)) / 2;
        for between in [after + moment, tick - moment] {
            questions.push(Question::NextAfter(between));
            let again = asked.next(between)?;
            let forward =
                again.is_some_and(|again| if counts_from_completion { again >= next } else { again == next });
            if !forward {
                return violation(
                    Rule::MovesForward,
                    format!("next_after({after:?}) answered {next}, and next_after({between:?}) {again:?}"),
                );
            }
        }
        if !counts_from_completion {
            previous_before_agrees(asked, after, next, after != start)?;
            questions.push(Question::PreviousBefore(tick));
        }
        after = tick;
    }
    Ok(())
}

fn its_period_is_kept(asked: &Asked, start: DateTime<Utc>, period: TimeDelta) -> Result<(), Violation> {
    let mut before = asked.next(start)?;
    for _ in 0..IN_A_ROW {
        let Some(tick) = before else { break };
        before = asked.next(tick.instant())?;
        if let Some(next) = before.filter(|next| next.instant() - tick.instant() != period) {
            return violation(
                Rule::KeepsItsPeriod,
                format!("{next} follows {tick}, and the period is {period}"),
            );
        }
    }
    Ok(())
}

/// Nothing follows: nothing follows anything later either, and nothing later comes before anything.
fn it_has_ended(asked: &Asked, after: DateTime<Utc>, counts_from_completion: bool) -> Result<(), Violation> {
    let later = [MILLISECOND, TimeDelta::hours(25), TimeDelta::days(4_000)].map(|time| after + time);
    for later in later {
        if let Some(next) = asked.next(later)? {
            let how = format!("next_after({after:?}) answered none, and next_after({later:?}) {next}");
            return violation(Rule::MovesForward, how);
        }
    }
    for later in later.into_iter().filter(|_| !counts_from_completion) {
        if let Some(previous) = asked.previous(later)?.filter(|previous| previous.instant() > after) {
            let how =
                format!("next_after({after:?}) answered none, and previous_before({later:?}) {previous}");
            return violation(Rule::AgreesWithPreviousBefore, how);
        }
    }
    Ok(())
}

/// `next` follows `after`, which is a fire time itself if `is_tick`.
fn previous_before_agrees(
    asked: &Asked,
    after: DateTime<Utc>,
    next: FireTime,
    is_tick: bool,
) -> Result<(), Violation> {
    let tick = next.instant();
    let disagrees = |before: DateTime<Utc>, previous: Option<FireTime>| {
        let how = format!(
            "next_after({after:?}) answered {next}, and previous_before({before:?}) {}",
            previous.map_or_else(|| "none".to_owned(), |previous| previous.to_string())
        );
        violation(Rule::AgreesWithPreviousBefore, how)
    };
    let known = asked.previous(tick + MILLISECOND)?;
    if known != Some(next) {
        return disagrees(tick + MILLISECOND, known);
    }
    let before = asked.previous(tick)?;
    let agrees = match before {
        Some(before) if is_tick => before.instant() == after,
        // What comes before it comes before the question as well.
        Some(before) => before.instant() <= after && asked.next(before.instant())? == Some(next),
        None => !is_tick,
    };
    if agrees { Ok(()) } else { disagrees(tick, before) }
}

fn it_answers_the_same_everywhere(
    make: &impl Fn() -> Result<Arc<dyn Schedule>, Violation>,
    first: &Arc<dyn Schedule>,
    questions: &[Question],
    answer_max: Duration,
) -> Result<(), Violation> {
    let differs = |rule, question, before: &Answer, now: &Answer| {
        violation(rule, format!("{question} was answered with {before:?}, and with {now:?}"))
    };
    let asked = Asked::new(first.clone(), answer_max);
    let answers: Vec<_> = questions.iter().map(|question| asked.ask(*question)).collect::<Result<_, _>>()?;
    thread::sleep(A_MOMENT);
    let made_later = Asked::new(make()?, answer_max);
    let known = questions.iter().zip(&answers);
    for (question, before) in known.clone().rev() {
        for (rule, asked) in
            [(Rule::AnswersTheSameAgain, &asked), (Rule::AnswersTheSameAfterARestart, &made_later)]
        {
            let now = asked.ask(*question)?;
            if now != *before {
                return differs(rule, question, before, &now);
            }
        }
    }
    // Each thread asks one question after the other, the same as the others at about the same time.
    let threads: Vec<_> = (0..THREADS).map(|_| Asked::new(first.clone(), answer_max)).collect();
    for (question, before) in known {
        for thread in &threads {
            let now = thread.ask(*question)?;
            if now != *before {
                return differs(Rule::AnswersTheSameOnEveryThread, question, before, &now);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
