//! What is wrong with what an application says: one fault, and all of them at once.

use std::{collections::HashMap, fmt};

use crate::core::text::{Excerpt, Grouped};

/// So many faults, or kinds of equal ones, are shown.
const SHOWN_MAX: usize = 10;
/// So many bytes of a fault's subject, rule and cure are shown.
const PART_SHOWN_MAX: usize = 2_048;

/// One thing that is wrong with a definition: what was written, the rule that it breaks, and the cure.
///
/// The fields hold everything. Of very long texts `Display` and `Debug` show the start.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// What the fault is in, from the outside in: `job "mail": cron`.
    pub subject: String,
    /// The value as it was written.
    pub value: String,
    /// The rule that the value breaks, with the position where there is one.
    pub rule: String,
    /// What to write instead.
    pub cure: String,
}

impl Fault {
    /// A fault in `subject`: `value` breaks `rule`; `cure` mends it.
    pub fn new(
        subject: impl Into<String>,
        value: impl Into<String>,
        rule: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self { subject: subject.into(), value: value.into(), rule: rule.into(), cure: cure.into() }
    }

    /// The same fault, seen from further outside.
    #[must_use]
    pub fn within(mut self, subject: &str) -> Self {
        self.subject = format!("{subject}: {}", self.subject);
        self
    }

    /// What it has in common with the same mistake in another job.
    fn kind(&self) -> [&str; 4] {
        [within_job(&self.subject), &self.value, &self.rule, &self.cure]
    }
}

/// The part of a subject behind the job's name: `cron` of `job "mail": cron`.
fn within_job(subject: &str) -> &str {
    let behind_quotes = subject.strip_prefix("job \"").and_then(|quoted| {
        let mut escaped = false;
        let end = quoted.find(|character| {
            let ends = character == '"' && !escaped;
            escaped = character == '\\' && !escaped;
            ends
        });
        quoted[end? + 1..].strip_prefix(": ")
    });
    behind_quotes.unwrap_or(subject)
}

impl std::error::Error for Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, value, rule, cure } = self;
        let [subject, rule, cure] = [subject, rule, cure].map(|part| Excerpt::new(part, PART_SHOWN_MAX));
        write!(f, "{subject} {:?}: {rule}; {cure}", Excerpt::value(value))
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, value, rule, cure } = self;
        f.debug_struct("Fault")
            .field("subject", &Excerpt::new(subject, PART_SHOWN_MAX))
            .field("value", &Excerpt::value(value))
            .field("rule", &Excerpt::new(rule, PART_SHOWN_MAX))
            .field("cure", &Excerpt::new(cure, PART_SHOWN_MAX))
            .finish()
    }
}

/// Everything that is wrong with what was given, all at once; never empty.
///
/// `Display` and `Debug` show the first ten. Those that are equal but for the job's name share a line. The
/// data, [`as_slice`](Self::as_slice), holds all.
///
/// ```
/// use callsheet_actors::{Fault, Faults};
///
/// let fault = |job: u32| Fault::new("cron", "?", "too short", "write five fields").within(&format!("job \"{job}\""));
/// let faults = Faults::check((0..4_096).map(fault).collect()).unwrap_err();
///
/// let shown = "job \"0\": cron \"?\": too short; write five fields; and 4,095 more like it";
/// assert_eq!(faults.to_string(), shown);
/// assert_eq!(faults.as_slice().len(), 4_096);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// The faults as an error, if there are any.
    ///
    /// # Errors
    ///
    /// The faults, unless `faults` is empty.
    pub fn check(faults: Vec<Fault>) -> Result<(), Self> {
        if faults.is_empty() { Ok(()) } else { Err(Self(faults)) }
    }

    /// The faults, of which there is at least one.
    pub(crate) fn of(faults: Vec<Fault>) -> Self {
        debug_assert!(!faults.is_empty(), "faults are never empty");
        Self(faults)
    }

    /// The faults in the order in which they were found.
    pub fn as_slice(&self) -> &[Fault] {
        &self.0
    }

    /// The faults one by one.
    pub fn into_vec(self) -> Vec<Fault> {
        self.0
    }

    /// What is shown: the first faults, each with those that are like it, and how many are left out.
    fn shown(&self) -> (Vec<Line<'_>>, u64) {
        let mut lines: Vec<Line<'_>> = Vec::new();
        let mut places = HashMap::new();
        let mut left_out = 0;
        for fault in &self.0 {
            if let Some(nth) = places.get(&fault.kind()) {
                let line: &mut Line<'_> = &mut lines[*nth];
                line.like_it += 1;
            } else if lines.len() < SHOWN_MAX {
                places.insert(fault.kind(), lines.len());
                lines.push(Line { fault, like_it: 0 });
            } else {
                left_out += 1;
            }
        }
        (lines, left_out)
    }
}

/// A fault, and how many others are equal to it but for the job's name.
struct Line<'a> {
    fault: &'a Fault,
    like_it: u64,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, like_it } = self;
        write!(f, "{fault}")?;
        if *like_it > 0 { write!(f, "; and {} more like it", Grouped(*like_it)) } else { Ok(()) }
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (lines, left_out) = self.shown();
        for (nth, line) in lines.iter().enumerate() {
            if nth > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{line}")?;
        }
        if left_out > 0 { write!(f, "\nand {} more faults", Grouped(left_out)) } else { Ok(()) }
    }
}

/// For `unwrap`: as readable as `Display`.
impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (lines, left_out) = self.shown();
        f.write_str("Faults")?;
        let mut list = f.debug_list();
        list.entries(lines.iter().map(|line| format!("{line}")));
        if left_out > 0 {
            list.entry(&format_args!("and {} more", Grouped(left_out)));
        }
        list.finish()
    }
}

impl std::error::Error for Faults {}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_job(job: &str, value: &str) -> Fault {
        Fault::new("cron", value, "too short", "write five fields").within(&format!("job {job:?}"))
    }

    #[test]
    fn equal_faults_of_many_jobs_are_one_line() {
        let mut all: Vec<_> = (0..4_095).map(|job| of_job(&format!("job-{job}"), "?")).collect();
        all.insert(1, of_job("another", "??"));
        let faults = Faults::of(all);

        let lines: Vec<String> = faults.to_string().lines().map(str::to_owned).collect();

        let expected = [
            r#"job "job-0": cron "?": too short; write five fields; and 4,094 more like it"#,
            r#"job "another": cron "??": too short; write five fields"#,
        ];
        assert_eq!(lines, expected);
        assert_eq!(faults.as_slice().len(), 4_096, "the data keeps all");
        assert_eq!(format!("{faults:?}").matches("and 4,094 more like it").count(), 1);
    }

    #[test]
    fn the_first_ten_of_different_faults_are_shown() {
        let faults = Faults::of((0..4_096).map(|job| of_job("a", &job.to_string())).collect());

        let shown = faults.to_string();

        assert_eq!(shown.lines().count(), 11);
        assert!(shown.ends_with("write five fields\nand 4,086 more faults"), "{shown}");
        assert!(format!("{faults:?}").ends_with(", and 4,086 more]"));
    }

    #[test]
    fn long_values_and_texts_are_cut_when_they_are_shown() {
        let long = "\n".repeat(1_000_000);
        let fault = Fault::new(&long, &long, &long, &long);
        let faults = Faults::of(vec![fault.clone(), of_job("a", &long)]);

        let shown = [fault.to_string(), format!("{fault:?}"), faults.to_string(), format!("{faults:#?}")];

        shown.iter().for_each(|shown| assert!(shown.len() < 40_000, "{} bytes", shown.len()));
        shown.iter().for_each(|shown| assert!(shown.contains("… (1,000,000 bytes)"), "{shown}"));
        assert_eq!(fault.value.len(), 1_000_000, "the data keeps all");
    }

    #[test]
    fn only_the_name_of_the_job_may_differ() {
        let table = [
            (r#"job "a": cron"#, "cron"),
            (r#"job "a\": \"b\\": cron"#, "cron"),
            (r#"job "a\"#, r#"job "a\"#),
            ("job name", "job name"),
            (r#"job "a"cron"#, r#"job "a"cron"#),
            ("postgres: url", "postgres: url"),
        ];

        for (subject, within) in table {
            assert_eq!(within_job(subject), within, "{subject}");
        }
    }
}
