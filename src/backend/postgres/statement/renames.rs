//! Jobs that have another name: what is kept of one is moved from name to name.

use callsheet_actors::{
    JobName, NodeId, Overlap,
    port::{Enrolled, Enrolment, NameUse},
};
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::Asker;

/// Moves what is kept of a job to the name by which it is enrolled, by the function of the schema, which says what it
/// locks. $1 scope, $2 the name, $3 the former one, if the enrolment gives one, $4 the lock key, $5 how many slots that
/// has, $6 own beacon.
pub(in super::super) const TAKE_OVER: &str =
    "SELECT answer, other_name, used_by FROM take_over($1, $2, $3, $4, $5, $6)";

parameters! {
    /// What [`TAKE_OVER`] is asked.
    struct Renamed<'a> {
        scope: &'a str,
        job: &'a str,
        former_name: Option<&'a str>,
        key: &'a str,
        slots: i32,
        beacon: i64,
    }
}

impl<'a> Renamed<'a> {
    pub(in super::super) fn of(asker: Asker<'a>, job: &'a Enrolment) -> Self {
        let slots = if let Overlap::Allow(max) = job.overlap { max } else { 1 };
        Self {
            scope: asker.scope,
            job: job.job.as_str(),
            former_name: job.formerly.as_ref().map(JobName::as_str),
            key: job.key.as_str(),
            slots: i32::try_from(slots).unwrap_or(i32::MAX),
            beacon: asker.beacon,
        }
    }
}

words! {
    /// What became of it.
    Word {
        Moved = "moved",
        Fired = "fired",
        Running = "running",
        Locked = "locked",
    }
}

/// Reads the row of [`TAKE_OVER`]: what is in the way, if something is.
pub(in super::super) fn in_the_way(row: &Row) -> Result<Option<Enrolled>, Error> {
    let used = match row.try_get("answer")? {
        Word::Moved => return Ok(None),
        Word::Locked => return Ok(Some(Enrolled::Locked)),
        Word::Running => NameUse::Running,
        Word::Fired => {
            let node = row.try_get::<_, Option<Uuid>>("used_by")?;
            NameUse::Fired { node: node.map(|node| NodeId::numbered(node.as_u128())) }
        }
    };
    // It was the name of a job when it was enrolled: one that is none was written by somebody else.
    let name = JobName::new(row.try_get::<_, &str>("other_name")?);
    Ok(Some(name.map_or(Enrolled::Locked, |name| Enrolled::OtherName { name, used })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_function_is_known() {
        let schema = include_str!("../migrations/V1__coordination.sql");
        let said = schema.split("answer := '").skip(1).filter_map(|rest| rest.split('\'').next());
        let mut said: Vec<_> = said.collect();
        said.sort_unstable();
        let mut known = Word::WORDS.to_vec();
        known.sort_unstable();
        assert_eq!(said, known);
    }
}
