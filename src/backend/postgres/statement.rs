//! Every statement, what it locks, and why.
//!
//! Order of locks: the leader row, then rows of names in their order, then debts. Only ends of runs whose rows are
//! found by their places ([`complete_in_place`]) lock names in another order, that of the places: no deadlock comes of
//! it, since they lock nothing else before, and wait for no row. Only the leader row is waited for, for `lock_timeout`,
//! and a name that somebody else is just making; a row of a name that somebody else has locked is skipped and asked for
//! again, because overlapping batches of three nodes deadlocked otherwise. A skipped row is missing in the answer:
//! [`names::LOOK_UP`] says whether it is there at all. A pending retry that somebody else has locked is as good as
//! resumed. So only names that are not there are inserted: `ON CONFLICT` waits for the transaction that is changing the
//! row that is there, however many rows this statement has locked already. One exception: the row of a job that is to
//! be paused, and was skipped several times, is waited for by a statement that locks no other ([`pause::IN_TURN`]), so
//! that nobody can wait for what it holds.
//!
//! What concerns a key locks its row `FOR UPDATE`, what concerns only a job's cursor `FOR NO KEY UPDATE`: so
//! an application that guards its writes with the key (`FOR KEY SHARE`) keeps others from the key, and nobody
//! from the cursor.
//!
//! Liveness of an owner: dead if nobody holds the advisory lock of its beacon, or somebody who did not
//! register it: the function `is_over` of the schema. One's own beacon is never probed: the lock is
//! re-entrant, so a session would take itself for dead and steal from itself. The probe is *shared*, or two
//! probers would each take the other's probe for the owner. A key is free while its row has no run; the
//! beacon of its last owner stays, so that a claim and an end change no column of an index: then a new
//! version of the row costs no entry in any (a "HOT" update).
//!
//! Plans are made once, perhaps while the tables are empty, and must stay good. So rows are looked up one by
//! one in the order of their names, by `LATERAL` queries that lock and therefore cannot be turned round: a
//! plain join read every name of the scope for each batch. Where it has to be a join, the scope is compared
//! with `CASE WHEN job IS NOT NULL THEN $1 END`, which is `$1`: it cannot be computed before there is a job to
//! look for, so no index is read by the scope alone. And nothing is joined but what is asked with rows
//! that an index or a place finds: a join of two parts of a statement would become a nested loop (60 ms for a
//! batch of 512).
//!
//! `READ COMMITTED` is taken for granted: a row that was locked is read again as it is then. What changes one
//! row only finds it again by its place (`ctid`), not by a second look into the index. If somebody changed
//! the row after this statement began and before it was locked, the statement does not see what is at that
//! place and changes nothing. So nothing is granted or recorded but what the change itself returns, and such
//! a row is missing in the answer as one that is locked.
//!
//! # Where a statement stands
//!
//! A file for each noun: the text of its statements, their parameters as a struct, and what their rows say,
//! in the words of the port. What one part of the backend alone asks stands there: `candidates`,
//! `former_connections`, `heartbeat`, `notifications`, `sessions`, `snapshots`.

/// A struct of parameters: its fields stand in the order of the numbers ($1, $2, …) in the text of the
/// statement.
macro_rules! parameters {
    ($(#[$doc:meta])* struct $name:ident<$life:lifetime> { $($(#[$of_field:meta])* $field:ident: $kind:ty,)+ }) => {
        $(#[$doc])*
        pub(in crate::backend::postgres) struct $name<$life> { $($(#[$of_field])* $field: $kind,)+ }

        impl $name<'_> {
            /// How many they are.
            #[cfg(test)]
            pub(in crate::backend::postgres) const COUNT: usize = [$(stringify!($field)),+].len();

            /// In the order of their numbers.
            pub(in crate::backend::postgres) fn list(
                &self,
            ) -> [&(dyn tokio_postgres::types::ToSql + Sync); [$(stringify!($field)),+].len()] {
                [$(&self.$field),+]
            }
        }
    };
}

/// The leader row, locked: the term that claims and moves are made under, or that they look for. Who does not
/// care who leads locks nothing.
///
/// Who claims under a term locks its epoch only, `FOR KEY SHARE`. A new term changes the epoch, which is part
/// of a unique index, and so waits; a renewal or the end of the term does not, and does not keep a claim
/// waiting. So the row may say that the term ends earlier than it does since: then nothing is granted. Who
/// claims only while nobody leads must not miss a renewal, and locks all of it, `FOR SHARE`.
macro_rules! term {
    (terms: $terms:literal, leaderless: $leaderless:literal) => {
        concat!(
            "unled AS MATERIALIZED (
    SELECT epoch, expires_at FROM leader WHERE scope = $1 AND true = ANY (",
            $leaderless,
            "::bool[]) FOR SHARE
), led AS MATERIALIZED (
    SELECT epoch, expires_at FROM leader WHERE scope = $1 AND array_remove(",
            $terms,
            "::int8[], NULL) <> '{}' FOR KEY SHARE
), term AS MATERIALIZED (
    -- The second one is not looked at, nor locked, if the first one is there.
    SELECT * FROM unled UNION ALL SELECT * FROM led LIMIT 1
)"
        )
    };
}

/// The words by which a statement answers. A word that is none of them is an error, as is any column that
/// cannot be read.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum $name { $($variant,)+ }

        impl $name {
            #[cfg(test)]
            const WORDS: &'static [&'static str] = &[$($word),+];
        }

        impl<'a> tokio_postgres::types::FromSql<'a> for $name {
            fn from_sql(
                kind: &tokio_postgres::types::Type,
                raw: &'a [u8],
            ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
                match <&str as tokio_postgres::types::FromSql<'_>>::from_sql(kind, raw)? {
                    $($word => Ok(Self::$variant),)+
                    other => Err(Box::new($crate::backend::postgres::statement::answer::Unknown::of(other))),
                }
            }

            fn accepts(kind: &tokio_postgres::types::Type) -> bool {
                <&str as tokio_postgres::types::FromSql<'_>>::accepts(kind)
            }
        }
    };
}

pub(super) mod advance;
pub(super) mod answer;
pub(super) mod backfill;
pub(super) mod claim;
pub(super) mod claim_as_leader;
pub(super) mod claim_status;
pub(super) mod complete;
pub(super) mod complete_in_place;
pub(super) mod control;
pub(super) mod declare;
pub(super) mod enrol;
pub(super) mod eviction;
pub(super) mod forget;
pub(super) mod histories;
pub(super) mod leader;
pub(super) mod lost_runs;
pub(super) mod names;
pub(super) mod pause;
pub(super) mod pending_retries;
pub(super) mod proof;
pub(super) mod renames;
pub(super) mod schema;
pub(super) mod server;
pub(super) mod ticks;
pub(super) mod transaction;

use callsheet_actors::{Term, port::Authority};
use tokio_postgres::{Client, Error, Statement};
use uuid::Uuid;

use super::{heartbeat, notifications, snapshots};

/// Who asks: a session of a node.
#[derive(Clone, Copy)]
pub(super) struct Asker<'a> {
    pub(super) scope: &'a str,
    pub(super) node: Uuid,
    pub(super) beacon: i64,
    /// The channel of the scope.
    pub(super) channel: &'a str,
}

macro_rules! prepared {
    ($($name:ident: $text:expr,)+) => {
        /// The statements of a session, prepared once.
        pub(super) struct Statements { $(pub(super) $name: Statement,)+ }

        impl Statements {
            /// Sent together.
            pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
                let ($($name,)+) = tokio::try_join!($(client.prepare($text)),+)?;
                Ok(Self { $($name,)+ })
            }
        }
    };
}

prepared! {
    declare: declare::DECLARE,
    enrol: enrol::ENROL,
    conflicts: declare::CONFLICTS,
    retract: declare::RETRACT,
    take_over: renames::TAKE_OVER,
    inquire: enrol::INQUIRE,
    withdraw: enrol::WITHDRAW,
    pause: pause::SKIPPING,
    pause_in_turn: pause::IN_TURN,
    make_keys: names::MAKE_KEYS,
    claim_as_leader: claim_as_leader::CLAIM_AS_LEADER,
    claim: claim::CLAIM,
    claim_fully: claim::CLAIM_FULLY,
    claim_with_key: claim::CLAIM_WITH_KEY,
    claim_status: claim_status::CLAIM_STATUS,
    begin: transaction::BEGIN,
    commit: transaction::COMMIT,
    complete_in_place: complete_in_place::COMPLETE_IN_PLACE,
    complete: complete::COMPLETE,
    complete_fully: complete::COMPLETE_FULLY,
    complete_with_key: complete::COMPLETE_WITH_KEY,
    release: complete::RELEASE,
    look_up: names::LOOK_UP,
    advance: advance::ADVANCE,
    close_lost: lost_runs::CLOSE_LOST,
    next_dead: lost_runs::NEXT_DEAD,
    forget_session: lost_runs::FORGET_SESSION,
    limit_time: transaction::LIMIT_TIME,
    age: forget::AGE,
    forget: forget::FORGET,
    keep_names: forget::KEEP_NAMES,
    pending_retries: pending_retries::PENDING_RETRIES,
    prove: proof::PROVE,
    heartbeat: heartbeat::HEARTBEAT,
    pulse_alone: heartbeat::PULSE,
    oldest_snapshot: snapshots::OLDEST_SNAPSHOT,
    pauses: notifications::PAUSES,
    still_pending: notifications::PENDING,
    compare: histories::COMPARE,
}

/// An array for a statement of something that few items have: empty, which costs nothing, if none has it.
fn unless_none<T>(values: impl Iterator<Item = Option<T>>) -> Vec<Option<T>> {
    let values: Vec<_> = values.collect();
    if values.iter().all(Option::is_none) { Vec::new() } else { values }
}

/// What the statements are told of authorities: the terms, and whether only unless the leader schedules the
/// job.
fn authorities(authorities: impl Iterator<Item = Option<Authority>>) -> (Vec<Option<i64>>, Vec<bool>) {
    let told = |authority: Option<Authority>| {
        (authority.and_then(Authority::term).map(number), authority == Some(Authority::Leaderless))
    };
    authorities.map(told).unzip()
}

/// A term that is too large for the server is none that it granted.
pub(super) fn number(term: Term) -> i64 {
    i64::try_from(term.0).unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokio_postgres::types::ToSql;

    use super::*;

    /// The numbers of the parameters in the text of a statement.
    fn numbers(text: &str) -> BTreeSet<usize> {
        let digits = |after: &str| after.chars().take_while(char::is_ascii_digit).collect::<String>();
        text.split('$').skip(1).filter_map(|after| digits(after).parse().ok()).collect()
    }

    #[test]
    fn each_statement_names_as_many_parameters_as_it_is_given() {
        let ends = [&0_i32 as &(dyn ToSql + Sync); complete::Ends::COUNT];
        let claims = [&0_i32 as &(dyn ToSql + Sync); claim::Claims::COUNT];
        for (text, count) in [
            (declare::DECLARE, declare::Declarations::COUNT),
            (declare::CONFLICTS, declare::Asked::COUNT),
            (declare::RETRACT, declare::Retracted::COUNT),
            (enrol::ENROL, enrol::Enrolments::COUNT),
            (renames::TAKE_OVER, renames::Renamed::COUNT),
            (enrol::INQUIRE, enrol::Inquiries::COUNT),
            (enrol::WITHDRAW, enrol::Withdrawn::COUNT),
            (pause::SKIPPING, pause::Parameters::COUNT),
            (pause::IN_TURN, pause::Parameters::COUNT),
            (names::MAKE_KEYS, names::Keys::COUNT),
            (names::LOOK_UP, names::Names::COUNT),
            (claim::CLAIM, claim::Kind::Plain.takes(&claims).len()),
            (claim::CLAIM_FULLY, claim::Kind::Full.takes(&claims).len()),
            (claim::CLAIM_WITH_KEY, claim::Kind::WithKey.takes(&claims).len()),
            (claim::CLAIM_NAMED, claim::Kind::Named.takes(&claims).len()),
            (claim::RESUME_BACKFILLED, claim::Kind::Resumed.takes(&claims).len()),
            (claim_as_leader::CLAIM_AS_LEADER, claim_as_leader::Ticks::COUNT),
            (claim_status::CLAIM_STATUS, claim_status::Granted::COUNT),
            (claim_status::FORMER_SESSION_LIVES, claim_status::FormerSession::COUNT),
            (complete::COMPLETE, complete::Kind::Plain.takes(&ends).len()),
            (complete::COMPLETE_FULLY, complete::Kind::Full.takes(&ends).len()),
            (complete::COMPLETE_WITH_KEY, complete::Kind::WithKey.takes(&ends).len()),
            (complete_in_place::COMPLETE_IN_PLACE, complete_in_place::Ends::COUNT),
            (complete::RELEASE, complete::Released::COUNT),
            (advance::ADVANCE, advance::Parameters::COUNT),
            (lost_runs::CLOSE_LOST, lost_runs::Names::COUNT),
            (lost_runs::NEXT_DEAD, lost_runs::NextDead::COUNT),
            (lost_runs::FORGET_SESSION, lost_runs::Session::COUNT),
            (forget::AGE, forget::Ages::COUNT),
            (forget::FORGET, forget::Page::COUNT),
            (forget::KEEP_NAMES, forget::Held::COUNT),
            (pending_retries::PENDING_RETRIES, pending_retries::Page::COUNT),
            (backfill::PUT, backfill::Backfill::COUNT),
            (backfill::LIST, backfill::Listed::COUNT),
            (backfill::ROWS, backfill::Asked::COUNT),
            (ticks::CURSOR, ticks::Cursor::COUNT),
            (ticks::OPEN, ticks::Cursor::COUNT),
            (backfill::ADVANCE, backfill::Advance::COUNT),
            (backfill::CANCEL, backfill::Cancelled::COUNT),
        ] {
            assert_eq!(numbers(text), (1..=count).collect(), "{text}");
        }
    }
}
