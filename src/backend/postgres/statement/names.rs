//! Rows of names: whether they are there, and those that are made.

use std::error;

use bytes::{BufMut, BytesMut};
use callsheet_actors::RunId;
use chrono::{DateTime, Utc};
use tokio_postgres::{
    Error, Row,
    types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked},
};
use uuid::Uuid;

use super::Asker;

/// Makes the rows of keys ($2) that were never claimed before, or were forgotten, in their order.
pub(in super::super) const MAKE_KEYS: &str = "
INSERT INTO names (scope, name, token, held_age)
SELECT $1, key, coalesce(l.token_bound, 0), coalesce(l.age, 0)
FROM unnest($2::text[]) AS a (key) LEFT JOIN leader l ON l.scope = $1
WHERE NOT EXISTS (SELECT FROM names WHERE name = a.key AND scope = CASE WHEN a.key IS NOT NULL THEN $1 END) ORDER BY key
ON CONFLICT DO NOTHING";

/// Why a row was missing in an answer: whether there is one, whether a job has it, and which run of a live
/// session holds the key, as committed last. Locks nothing.
///
/// $1 scope, $2 own beacon, $3 names.
pub(in super::super) const LOOK_UP: &str = "
SELECT a.ord, n.name IS NOT NULL AS found, n.cursor,
       CASE
           WHEN n.run IS NULL THEN NULL
           WHEN n.beacon = $2 OR NOT is_over($1, n.beacon) THEN n.run
       END AS holder
FROM unnest($3::text[]) WITH ORDINALITY AS a (name, ord) LEFT JOIN names n ON n.name = a.name AND n.scope = CASE WHEN a.name IS NOT NULL THEN $1 END";

parameters! {
    /// What [`MAKE_KEYS`] is asked.
    struct Keys<'a> {
        scope: &'a str,
        keys: Vec<&'a str>,
    }
}

parameters! {
    /// What [`LOOK_UP`] is asked.
    struct Names<'a> {
        scope: &'a str,
        beacon: i64,
        names: Vec<&'a str>,
    }
}

impl<'a> Keys<'a> {
    pub(in super::super) fn of(asker: Asker<'a>, keys: Vec<&'a str>) -> Self {
        Self { scope: asker.scope, keys }
    }
}

impl<'a> Names<'a> {
    pub(in super::super) fn of(asker: Asker<'a>, names: Vec<&'a str>) -> Self {
        Self { scope: asker.scope, beacon: asker.beacon, names }
    }
}

impl Names<'_> {
    pub(in super::super) fn count(&self) -> usize {
        self.names.len()
    }
}

/// Where a version of a row is: its page and its number there, as the server sends and compares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct Place([u8; 6]);

impl<'a> FromSql<'a> for Place {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn error::Error + Sync + Send>> {
        Ok(Self(raw.try_into()?))
    }

    accepts!(TID);
}

impl ToSql for Place {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn error::Error + Sync + Send>> {
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    accepts!(TID);
    to_sql_checked!();
}

/// What is known of a name whose row was missing in an answer.
pub(in super::super) struct Found {
    pub(in super::super) row: bool,
    /// Up to here the job's ticks are decided; `None` if no job has the name.
    pub(in super::super) cursor: Option<DateTime<Utc>>,
    /// The run that holds the key, if its session lives.
    pub(in super::super) holder: Option<RunId>,
}

/// Reads a row of [`LOOK_UP`].
pub(in super::super) fn found(row: &Row) -> Result<Found, Error> {
    let holder: Option<Uuid> = row.try_get("holder")?;
    Ok(Found { row: row.try_get("found")?, cursor: row.try_get("cursor")?, holder: holder.map(RunId::from) })
}
