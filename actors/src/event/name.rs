//! What kind of event it is, without what happened.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::kind::EventKind;

macro_rules! event_names {
    ($($name:ident,)*) => {
        /// What kind of event it is, without what happened: to select events by.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum EventName {
            $(
                #[doc = concat!("[`EventKind::", stringify!($name), "`].")]
                $name,
            )*
        }

        impl EventName {
            /// Every name.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The name as it stands in logs: `RunStarted`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }

        impl EventKind {
            /// The event's name: `RunStarted`.
            pub fn name(&self) -> EventName {
                match self {
                    $(Self::$name { .. } => EventName::$name,)*
                }
            }
        }
    };
}

event_names! {
    JobAdded,
    JobRemoved,
    JobUpdated,
    JobPaused,
    JobResumed,
    JobRestarted,
    JobBroken,
    JobRevived,
    JobConflicting,
    JobParked,
    JobUnparked,
    JobOverdue,
    JobRecovered,
    BackfillStarted,
    BackfillFinished,
    BackfillCancelled,
    TickHeld,
    TickSkipped,
    RunStarted,
    RunProgressed,
    RunRetried,
    RunSucceeded,
    RunFailed,
    RunPanicked,
    RunTimedOut,
    RunCancelled,
    RunLost,
    LockContended,
    LockUnavailable,
    LockLost,
    LeadershipGained,
    LeadershipLost,
    CandidacyWithdrawn,
    CandidacyRestored,
    LeadershipUnavailable,
    LeaderOverdue,
    LeaderRecovered,
    LeaseTooShort,
    LeaseLongEnough,
    ClockStepped,
    ZoneDataChanged,
    ZoneDataDiffers,
    JobSetDrift,
    HistoryDiverged,
    ShutdownStarted,
    ShutdownFinished,
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
