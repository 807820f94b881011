//! What a request gives, read with errors that name it.

use std::time::Duration;

use callsheet_actors::{Fault, JobName, RunId, uuid::Uuid};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::problem::Problem;
use crate::schedule::parse_duration;

fn refused(fault: Fault) -> Problem {
    match callsheet_actors::Faults::check(vec![fault]) {
        Err(faults) => Problem::faults(&faults),
        Ok(()) => Problem::invalid("something is wrong"),
    }
}

/// The name of a job.
pub(crate) fn job(name: &str) -> Result<JobName, Problem> {
    JobName::new(name).map_err(refused)
}

/// A value that is one word, or JSON.
pub(crate) fn word<T: DeserializeOwned>(name: &'static str, word: &str) -> Result<T, Problem> {
    serde_json::from_value(Value::String(word.to_owned()))
        .map_err(|error| refused(Fault::new(name, word, error.to_string(), "use one of its words")))
}

/// A cursor, which an answer before gave.
pub(crate) fn cursor<T: DeserializeOwned>(text: Option<&str>) -> Result<Option<T>, Problem> {
    let read = |text| {
        serde_json::from_str(text).map_err(|_| {
            refused(Fault::new(
                "after",
                text,
                "it is the `next` of the page before",
                "start at the first page",
            ))
        })
    };
    text.filter(|text| !text.is_empty()).map(read).transpose()
}

/// The id of a run.
pub(crate) fn run(text: &str) -> Result<RunId, Problem> {
    let read = text.parse::<Uuid>().map(RunId::from);
    read.map_err(|error| refused(Fault::new("run", text, error.to_string(), "give the id of a run")))
}

/// A number within bounds.
pub(crate) fn within<N: PartialOrd + Copy + ToString>(
    name: &'static str,
    given: Option<N>,
    default: N,
    (min, max): (N, N),
) -> Result<N, Problem> {
    match given {
        None => Ok(default),
        Some(number) if number >= min && number <= max => Ok(number),
        Some(number) => {
            let rule = format!("it is {} to {}", min.to_string(), max.to_string());
            Err(refused(Fault::new(name, number.to_string(), rule, "choose a number within it")))
        }
    }
}

/// A duration.
pub(crate) fn duration(name: &'static str, text: &str) -> Result<Duration, Problem> {
    parse_duration(text).map_err(|fault| refused(fault.within(name)))
}
