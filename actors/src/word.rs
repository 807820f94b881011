//! Public values that are one word: the same in texts, in JSON and in metrics, so that one can search
//! for it.

/// The word of each variant, and [`Display`](std::fmt::Display) by it.
macro_rules! words {
    ($type:ident { $($variant:ident: $word:literal),+ $(,)? }) => {
        $crate::word::words!(pub $type { $($variant: $word),+ });
    };
    ($vis:vis $type:ident { $($variant:ident: $word:literal),+ $(,)? }) => {
        impl $type {
            /// Its word in texts and in JSON.
            $vis fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

pub(crate) use words;

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        fmt::{Debug, Display},
        fs,
        path::{Path, PathBuf},
        time::Duration,
    };

    use chrono::{DateTime, TimeDelta};

    use crate::{
        BodyThreads, ErrorKind, Event, EventName, Expectation, FailingJob, Fault, Faults, FireTime, JobName,
        NodeId, Note, Operation, OverdueJob, Part, ProblemJobs, RunError, RunIds, Scheduled, ShutdownReport,
        core::{backfill::BackfillId, contract::Breach},
        error::Over,
        event_log::tests::sample,
        explain::{Answer, Delay, Evidence, Explanation, Explanations, NotDecided, NotKnown},
        port::{NameUse, NotDue, RecordKind, RecordName, ScheduleIdentity},
        serde::tests::{overlaps, problems},
    };

    /// They are no values of the public interface, but parts of the texts of others.
    const PARTS: [&str; 9] =
        ["AllOver", "AndMore", "DurationText", "Excerpt", "Failure", "Grouped", "LeftOut", "Line", "Listed"];

    /// What `Debug` writes, and a text for people does not.
    const NO_WORDS: [&str; 8] = ["Some(", "None", "Ok(", "Err(", " {", "::", "[\"", "Duration"];

    #[derive(Default)]
    struct Shown(BTreeSet<String>);

    impl Shown {
        fn are_words<T: Display + Debug>(&mut self, values: impl IntoIterator<Item = T>) {
            let path = std::any::type_name::<T>();
            self.0.insert(path.rsplit("::").next().unwrap_or(path).to_owned());
            for value in values {
                let text = value.to_string();
                assert!(!text.is_empty(), "{value:?}");
                // An event without data is its name, as filters and JSON have it.
                let is_name = EventName::ALL.iter().any(|name| name.as_str() == text);
                let is_variant = text == format!("{value:?}") && text.starts_with(char::is_uppercase);
                assert!(is_name || !is_variant, "{text}");
                let found: Vec<_> = NO_WORDS.into_iter().filter(|mark| text.contains(mark)).collect();
                assert!(found.is_empty(), "{found:?} in {text}");
            }
        }
    }

    fn sources(dir: &Path) -> Vec<PathBuf> {
        let entries =
            fs::read_dir(dir).expect("the sources are there").map(|entry| entry.expect("an entry").path());
        let (dirs, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
        dirs.iter().flat_map(|dir| sources(dir)).chain(files).collect()
    }

    /// The types that say by hand how they are shown. Those of one word have a macro, and names are texts.
    fn shown_by_hand() -> BTreeSet<String> {
        let files = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
        let files = files.iter().filter(|path| !path.iter().any(|part| part == "testkit"));
        let files = files.filter(|path| !path.to_string_lossy().contains("tests"));
        files
            .flat_map(|path| {
                let text = fs::read_to_string(path).expect("it is text");
                let lines = text.lines().filter(|line| line.starts_with("impl"));
                let names = lines.filter_map(|line| line.split_once("fmt::Display for ")).map(|(_, name)| {
                    name.chars().take_while(|letter| letter.is_alphanumeric()).collect::<String>()
                });
                names.collect::<Vec<_>>()
            })
            .filter(|name| !PARTS.contains(&name.as_str()))
            .collect()
    }

    #[test]
    fn every_value_is_shown_in_words() {
        let at = DateTime::UNIX_EPOCH + Duration::from_micros(1_500);
        let node = NodeId::numbered(1);
        let job = || JobName::new("mail").expect("a good name");
        let fault = || Fault::new("cron", "?", "too short", "write five fields");
        let kinds = || EventName::ALL.iter().map(|name| sample(*name));
        let mut shown = Shown::default();

        shown.are_words(kinds());
        shown.are_words(kinds().map(|kind| Event { at, node, kind }));
        shown.are_words(problems());
        shown.are_words(overlaps());
        shown.are_words([ProblemJobs { first: vec![job()], count: 7 }]);
        let expectation = Expectation::Success;
        shown.are_words([OverdueJob { job: job(), expectation, since: at }]);
        shown.are_words([FailingJob { job: job(), failures: 3, since: at }]);
        shown.are_words(Operation::ALL);
        shown.are_words(Part::ALL);
        shown.are_words(ErrorKind::ALL);
        shown.are_words([BodyThreads::Body, BodyThreads::Blocking, BodyThreads::Local]);
        shown.are_words([
            Scheduled::Here,
            Scheduled::ByLeader,
            Scheduled::NoLeader,
            Scheduled::WithoutLeader,
            Scheduled::OtherSchedule,
            Scheduled::Unknown { reason: "no answer".to_owned() },
        ]);
        shown.are_words([ShutdownReport::default()]);
        shown.are_words([RunError::from("out of paper")]);
        shown.are_words([fault()]);
        shown.are_words([Faults::of(vec![fault(), fault()])]);
        shown.are_words([Over { job: job(), last: at, now: at }]);
        shown.are_words([
            Breach::NotLater { after: at, answer: at },
            Breach::NotEarlier { before: at, answer: at },
            Breach::Fraction { answer: at },
            Breach::Contradiction { after: at, next: None, before: at, previous: Some(at) },
        ]);
        shown.are_words([ScheduleIdentity::of_text("0 3 * * *")]);
        shown.are_words([crate::ScheduleOverride {
            code: "every 1h".into(),
            schedule: "every 3h".into(),
            by: None,
            since: at,
            note: None,
            version: 7,
        }]);
        let mut code = crate::port::JobSet::default();
        code.add("mail", "every 5m");
        shown.are_words([code]);
        shown.are_words([
            NameUse::Fired { node: Some(node) },
            NameUse::Fired { node: None },
            NameUse::Running,
        ]);
        shown.are_words([FireTime::new(at)]);
        shown.are_words([node]);
        shown.are_words([Note::new("the disk is full").expect("a good note")]);
        shown.are_words([crate::Arguments::of(&7).expect("they are short")]);
        shown.are_words(RecordKind::ALL.map(|kind| RecordName::new(kind, "mail")));
        shown.are_words([RunIds::of(node).next(at)]);
        shown.are_words([BackfillId::new(RunIds::of(node).next(at))]);
        shown.are_words(EventName::ALL.iter().copied());
        add_explanations(&mut shown);

        assert_eq!(shown.0, shown_by_hand());
    }

    /// What an explanation is made of.
    fn add_explanations(shown: &mut Shown) {
        let (at, meant) = (DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH.naive_utc());
        let (job, run) = (JobName::new("report").unwrap(), RunIds::of(NodeId::numbered(1)).next(at));
        let timezone = || "Europe/Lisbon".to_owned();
        let not_due = [
            NotDue::Gap { meant, timezone: timezone(), instead: None },
            NotDue::Fold { meant, timezone: timezone(), instead: at },
            NotDue::Calendar { name: "holidays".to_owned() },
            NotDue::NotStarted { starting_at: at },
            NotDue::Ended { until: at },
            NotDue::AfterCompletion,
            NotDue::Jitter { to: at },
        ];
        shown.are_words(not_due.clone());
        shown.are_words([
            Delay::LeaderGap { from: at, to: at },
            Delay::ClockStepped { by: TimeDelta::seconds(-3) },
            Delay::Paused { resumed_by: None },
            Delay::Run { run, ended_at: at },
            Delay::Lost { attempt: 2 },
            Delay::Slot,
            Delay::NotRecorded,
        ]);
        shown.are_words([
            NotDecided::Time,
            NotDecided::Run { run },
            NotDecided::Store,
            NotDecided::NoLeader { since: at },
        ]);
        shown.are_words([
            NotKnown::BeforeJob { since: at },
            NotKnown::Pruned { kept_since: at },
            NotKnown::NoHistory,
            NotKnown::Dropped { node: NodeId::numbered(1), count: 3, from: at, to: at },
            NotKnown::NewerVersion { outcome: None },
            NotKnown::NewerVersion { outcome: Some("dreamt".into()) },
            NotKnown::NoEnd { run, node: NodeId::numbered(1) },
            NotKnown::NotRecorded,
        ]);
        let evidence = [
            Evidence::Schedule { schedule: "every 5m".into(), fires: false },
            Evidence::Node { decided_up_to: at, fires: true },
        ];
        shown.are_words(evidence.clone());
        let answers = [
            Answer::NotFireTime {
                previous: None,
                next: Some(FireTime::new(at)),
                because: not_due.first().cloned(),
            },
            Answer::Exhausted { limit: 3 },
            Answer::NotDecided { because: NotDecided::Time },
            Answer::NotKnown { because: NotKnown::NoHistory },
            Answer::Vetoed { run, text: Some("out of paper".into()) },
        ];
        shown.are_words(answers.clone());
        let explanations =
            answers.map(|answer| Explanation { job: job.clone(), at, answer, evidence: evidence.to_vec() });
        shown.are_words(explanations.clone());
        shown.are_words([Explanations { job, explanations: explanations.to_vec(), next: Some(at) }]);
    }
}
