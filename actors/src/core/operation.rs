//! What a node asks of its store.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Something that a node asks of its store: the `operation` of a [problem](crate::Problem) and of the metric
/// `callsheet_coordination_errors_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Opening a session.
    Open,
    /// Keeping a session open.
    Session,
    /// Looking who leads, and saying whether this node stands as a candidate.
    Observe,
    /// Asking for a term.
    Campaign,
    /// Extending a term.
    Renew,
    /// Giving a term up.
    Resign,
    /// Proving that a claim would be possible, while nothing is due.
    Prove,
    /// Enrolling jobs.
    Enrol,
    /// Asking which overlap policies others declare.
    Conflicts,
    /// Declaring an overlap policy no more.
    Retract,
    /// Asking what the leader does with jobs.
    Inquire,
    /// Saying that jobs were removed.
    Withdraw,
    /// Claiming runs.
    Claim,
    /// Recording the ends of runs.
    Complete,
    /// An end that the store did not record: the run was closed already, or the store knows neither it nor
    /// its key.
    StaleCompletion,
    /// Moving cursors over ticks that do not run.
    Advance,
    /// Pausing or resuming jobs.
    Pause,
    /// Hearing what other nodes do.
    Notification,
    /// Closing the runs of dead sessions.
    CloseLost,
    /// Asking which lost runs are to be retried.
    PendingRetries,
    /// Forgetting names that nobody uses any more.
    Forget,
    /// Saying which jobs this node has, so that their names are not forgotten.
    KeepNames,
    /// Asking whether the store knows what it granted to this node before.
    Compare,
    /// Keeping backfills, and how far they are.
    Backfills,
    /// Reading the catalogue.
    Catalogue,
    /// Doing what other nodes ask of this one, and looking who they are.
    Control,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 26] = [
        Self::Open,
        Self::Session,
        Self::Observe,
        Self::Campaign,
        Self::Renew,
        Self::Resign,
        Self::Prove,
        Self::Enrol,
        Self::Conflicts,
        Self::Retract,
        Self::Inquire,
        Self::Withdraw,
        Self::Claim,
        Self::Complete,
        Self::StaleCompletion,
        Self::Advance,
        Self::Pause,
        Self::Notification,
        Self::CloseLost,
        Self::PendingRetries,
        Self::Forget,
        Self::KeepNames,
        Self::Compare,
        Self::Backfills,
        Self::Catalogue,
        Self::Control,
    ];

    /// Its name in metrics, logs and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Session => "session",
            Self::Observe => "observe",
            Self::Campaign => "campaign",
            Self::Renew => "renew",
            Self::Resign => "resign",
            Self::Prove => "prove",
            Self::Enrol => "enrol",
            Self::Conflicts => "conflicts",
            Self::Retract => "retract",
            Self::Inquire => "inquire",
            Self::Withdraw => "withdraw",
            Self::Claim => "claim",
            Self::Complete => "complete",
            Self::StaleCompletion => "stale_completion",
            Self::Advance => "advance",
            Self::Pause => "pause",
            Self::Notification => "notification",
            Self::CloseLost => "close_lost",
            Self::PendingRetries => "pending_retries",
            Self::Forget => "forget",
            Self::KeepNames => "keep_names",
            Self::Compare => "compare",
            Self::Backfills => "backfills",
            Self::Catalogue => "catalogue",
            Self::Control => "control",
        }
    }

    /// The engine asks only when somebody wants it to, or once in hours, and does not ask again by itself
    /// until it succeeds.
    pub(crate) fn is_on_demand(self) -> bool {
        match self {
            Self::Resign
            | Self::Conflicts
            | Self::Withdraw
            | Self::StaleCompletion
            | Self::Pause
            | Self::KeepNames
            | Self::Compare => true,
            Self::Open
            | Self::Session
            | Self::Observe
            | Self::Campaign
            | Self::Renew
            | Self::Prove
            | Self::Enrol
            | Self::Retract
            | Self::Inquire
            | Self::Claim
            | Self::Complete
            | Self::Advance
            | Self::Notification
            | Self::CloseLost
            | Self::PendingRetries
            | Self::Forget
            | Self::Backfills
            | Self::Catalogue
            | Self::Control => false,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Operation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Operation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let found = Self::ALL.into_iter().find(|operation| operation.as_str() == name);
        found.ok_or_else(|| de::Error::invalid_value(de::Unexpected::Str(&name), &"the name of an operation"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_its_place_and_a_name_of_its_own() {
        for (at, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, at, "{operation}");
            let named = Operation::ALL.iter().filter(|other| other.as_str() == operation.as_str());
            assert_eq!(named.count(), 1, "{operation}");
        }
    }
}
