//! The lock actor owns the claims in flight and held.
//!
//! It sends the requests to the locker port, but for what a store in memory answers on the spot. Job actors
//! ask it for claims and tell it of ends; while a round trip is under way it collects, and everything
//! collected goes into the next one, so that there is no waiting timer and at low load a claim goes out at
//! once. Ends go before claims, in the order of the locker's contract. When the session is lost it fails what
//! is pending, tells the jobs whose keys are gone, and opens another session. Nothing survives a restart.
//!
//! A store in the memory of this process answers claims, ends and advances on the thread of the job that
//! asks, [on the spot](OnTheSpot). The actor keeps its session, hears its notifications, and serves what is
//! not answered so. Both share what is [held](Holdings).
//!
//! It knows the jobs, which it answers, and no other actor: what it finds out it [reports](Report).

mod actor;
mod answers;
mod at_once;
mod calls;
mod commands;
mod consequences;
mod ends;
mod halves;
mod history;
mod holdings;
mod notifications;
mod proofs;
mod refused_batches;
mod report;
mod round_span;
mod rounds;
mod set_back;

pub(crate) use self::{
    actor::{BATCH_MAX, LockActor, always_locked, publish_lost},
    at_once::OnTheSpot,
    commands::{
        AskLockHealth, AskOtherZoneData, AskPendingRetries, AwaitSession, CloseLostRuns, CloseSession,
        EnrolJobs, FindConflicts, FindHolder, ForgetNames, InquireJobs, InquiryPurpose, KeepNames,
        ListHolders, LockHealth, PauseInStore, ReadClock, RetractKeys, WithdrawJobs,
    },
    holdings::Holdings,
    proofs::AllEnrolled,
    report::Report,
};
