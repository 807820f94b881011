//! What a body says of its run while it works: a report, measures, its progress.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    byte_budget::{ByteBudget, Charge},
    storable::storable,
    text::first_chars,
};
use crate::{fault::Fault, name::check_name};

/// The longest [report](crate::Run::report) of a run, in characters. Of a longer one the start is kept, and
/// its last character is `…`.
pub const REPORT_CHARS_MAX: usize = 1_000;
/// The most [measures](crate::Run::measure) of a run.
pub const MEASURES_MAX: usize = 20;
/// The most bytes of the reports and measures of all runs of a node, from their being said until the end of
/// the run is recorded. When they are that many, what is said further is not kept, and the log says so.
pub const REPORTED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The shortest time between two [`RunProgressed`](crate::EventKind::RunProgressed) of one run.
pub const PROGRESS_PACE: Duration = Duration::from_secs(1);

/// What a body said of its run, in its last attempt: see [`Run::report`](crate::Run::report).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Reported {
    /// What the run did, in words, at most [`REPORT_CHARS_MAX`] characters; the last that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Arc<str>>,
    /// What the run did, in numbers; at most [`MEASURES_MAX`], each name once, in the order of their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measures: Vec<Measure>,
    /// How far the run is, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<f64>,
}

/// A number that a body measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Measure {
    /// What it is.
    pub name: Arc<str>,
    /// How much: a finite number.
    pub value: f64,
}

impl Measure {
    /// So much of something.
    pub fn new(name: impl Into<Arc<str>>, value: f64) -> Self {
        Self { name: name.into(), value }
    }
}

impl Reported {
    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The measure of this name.
    pub fn measure(&self, name: &str) -> Option<f64> {
        self.place_of(name).ok().map(|place| self.measures[place].value)
    }

    /// Where the measure of this name is, or is to be.
    fn place_of(&self, name: &str) -> Result<usize, usize> {
        self.measures.binary_search_by(|measure| (*measure.name).cmp(name))
    }
}

/// What was said of a run so far.
#[derive(Debug, Default)]
pub(crate) struct Reporting {
    reported: Reported,
    /// How often something was said.
    said: u32,
    /// Of the report.
    report_charge: Option<Charge>,
    /// Of the names of the measures.
    measure_charges: Vec<Charge>,
    /// When its progress was published last, by the monotonic clock.
    published: Option<Duration>,
    /// It was said in the log that something of it was refused.
    refused: bool,
}

impl Reporting {
    pub(crate) fn reported(&self) -> Reported {
        self.reported.clone()
    }

    /// How often something was said: it differs once something else was.
    pub(crate) fn said(&self) -> u32 {
        self.said
    }

    /// Something was said.
    pub(crate) fn count(&mut self) {
        self.said = self.said.wrapping_add(1);
    }

    /// Whether this is the first thing that is refused of the run.
    pub(crate) fn is_first_refused(&mut self) -> bool {
        !std::mem::replace(&mut self.refused, true)
    }

    /// Takes a report in the place of the one before.
    pub(crate) fn report(&mut self, text: &str, bytes: &Arc<ByteBudget>) -> Result<(), Fault> {
        let text = storable(text);
        // The one before may give its room to this one.
        self.report_charge = None;
        self.reported.report = None;
        self.report_charge = Some(charge("report", &text, bytes)?);
        self.reported.report = Some(text.into());
        Ok(())
    }

    /// Takes a number in the place of the one of this name before.
    pub(crate) fn measure(&mut self, name: &str, value: f64, bytes: &Arc<ByteBudget>) -> Result<(), Fault> {
        if !value.is_finite() {
            let rule = "a measure is a finite number";
            return Err(Fault::new(format!("measure {name:?}"), value.to_string(), rule, "leave it out"));
        }
        let place = match self.reported.place_of(name) {
            Ok(known) => {
                self.reported.measures[known].value = value;
                return Ok(());
            }
            Err(place) => place,
        };
        check_name("measure", name)?;
        if self.reported.measures.len() >= MEASURES_MAX {
            let rule = format!("a run has at most {MEASURES_MAX} measures");
            return Err(Fault::new("measure", name, rule, "leave some out, or write them into the report"));
        }
        self.measure_charges.push(charge("measure", name, bytes)?);
        self.reported.measures.insert(place, Measure::new(name, value));
        Ok(())
    }

    /// Takes a progress, and answers it if it is to be published.
    pub(crate) fn progress(&mut self, now: Duration, progress: f64) -> Result<Option<f64>, Fault> {
        if progress.is_nan() {
            let rule = "progress is a number from 0 to 1";
            return Err(Fault::new("progress", "NaN", rule, "leave it out while it is not known"));
        }
        let progress = progress.clamp(0.0, 1.0);
        self.reported.progress = Some(progress);
        let is_due = self.published.is_none_or(|at| now.saturating_sub(at) >= PROGRESS_PACE);
        if is_due {
            self.published = Some(now);
        }
        Ok(is_due.then_some(progress))
    }
}

/// A report as it is kept: its first characters.
pub(crate) fn report_of(text: impl fmt::Display) -> String {
    first_chars(text, REPORT_CHARS_MAX)
}

fn charge(what: &str, text: &str, bytes: &Arc<ByteBudget>) -> Result<Charge, Fault> {
    bytes.charge(text.len()).ok_or_else(|| {
        let rule = format!("the reports of the runs of a node have at most {REPORTED_BYTES_MAX} bytes");
        Fault::new(what, text, rule, "report less, or run fewer jobs at once")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget() -> Arc<ByteBudget> {
        ByteBudget::new(1_000)
    }

    #[test]
    fn a_report_takes_the_place_of_the_one_before() {
        let (mut said, bytes) = (Reporting::default(), ByteBudget::new(10));

        said.report("ten bytes!", &bytes).expect("it fits");
        said.report("0123456\0", &bytes).expect("the one before is gone");

        assert_eq!(said.reported().report.as_deref(), Some("0123456\u{fffd}"));
        assert!(said.report("eleven bytes", &bytes).is_err());
        assert_eq!((said.reported().report, bytes.used()), (None, 0), "what is not kept is not shown");
    }

    #[test]
    fn a_long_report_is_cut_between_two_characters() {
        let kept = report_of("é".repeat(1_001));

        assert_eq!(kept.chars().count(), 1_000);
        assert!(kept.ends_with("é…"));
        assert_eq!(report_of("é".repeat(1_000)), "é".repeat(1_000));
    }

    #[test]
    fn a_run_has_twenty_finite_measures_with_good_names() {
        let (mut said, bytes) = (Reporting::default(), budget());
        for nth in 0..MEASURES_MAX {
            said.measure(&format!("m{nth}"), 1.0, &bytes).expect("there is room");
        }

        said.measure("m3", 7.5, &bytes).expect("it is known");
        for (name, value, wrong) in [
            ("m20", 1.0, "measure \"m20\": a run has at most 20 measures"),
            ("m3", f64::NAN, "measure \"m3\" \"NaN\": a measure is a finite number"),
            ("m3", f64::INFINITY, "measure \"m3\" \"inf\": a measure is a finite number"),
            ("", 1.0, "measure \"\": a name is not empty"),
        ] {
            let fault = said.measure(name, value, &bytes).expect_err("it is wrong").to_string();
            assert!(fault.starts_with(wrong), "{fault}");
        }

        let reported = said.reported();
        assert_eq!((reported.measures.len(), reported.measure("m3")), (MEASURES_MAX, Some(7.5)));
    }

    #[test]
    fn progress_is_clamped_and_published_once_a_second() {
        let (mut said, at) = (Reporting::default(), Duration::from_millis);

        let published: Vec<_> = [(0, -1.0), (999, 0.4), (1_000, 0.5), (1_999, 2.0)]
            .into_iter()
            .filter_map(|(millis, progress)| said.progress(at(millis), progress).expect("a number"))
            .collect();

        assert_eq!(published, [0.0, 0.5]);
        assert_eq!(said.reported().progress, Some(1.0), "the last that was said");
        assert!(said.progress(at(9_000), f64::NAN).is_err());
        assert_eq!(said.reported().progress, Some(1.0));
    }
}
