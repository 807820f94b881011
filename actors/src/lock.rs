//! The lock actor owns the claims in flight and held.
//!
//! It alone sends requests to the locker port. Job actors ask it for claims and tell it of ends; while a
//! round trip is under way it collects, and everything collected goes into the next one, so that there is no
//! waiting timer and at low load a claim goes out at once. Ends go before claims, in the order of the
//! locker's contract. When the session is lost it fails what is pending, tells the jobs whose keys are gone,
//! and opens another session. Nothing survives a restart.
//!
//! A store in the memory of this process answers the jobs on their own threads, [on the spot](OnTheSpot): the actor only
//! keeps its session.
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
mod notifications;
mod proofs;
mod refused_batches;
mod report;
mod rounds;

pub(crate) use self::{
    actor::{BATCH_MAX, LockActor, always_locked, publish_lost},
    at_once::OnTheSpot,
    commands::{
        AskLockHealth, AskOtherZoneData, AskPendingRetries, AwaitSession, CloseLostRuns, CloseSession,
        EnrolJobs, FindConflicts, FindHolder, ForgetNames, InquireJobs, InquiryPurpose, KeepNames,
        LockHealth, PauseInStore, ReadClock, RetractKeys, WithdrawJobs,
    },
    proofs::AllEnrolled,
    report::Report,
};
