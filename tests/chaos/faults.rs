//! Everything that is done to the cluster, by name.

mod disk;
mod network;
mod pooler;
mod processes;
mod servers;
mod strangers;

use std::{fmt, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use super::stage::{LEASE, Stage};

/// A fault that outlasts the lease, so that whatever is trusted for a lease is over.
pub(crate) const LONG: Duration = Duration::from_millis(2 * LEASE.as_millis() as u64);
/// One that does not.
pub(crate) const SHORT: Duration = Duration::from_millis(LEASE.as_millis() as u64 / 2);

/// What a fault has done.
#[derive(Debug, Default)]
pub(crate) struct Wound {
    pub(crate) node: Option<usize>,
    /// When it began, if that was not at once.
    pub(crate) struck_at: Option<DateTime<Utc>>,
    /// When it was over, if that was not when it returned.
    pub(crate) healed_at: Option<DateTime<Utc>>,
    /// Why it was not done.
    pub(crate) not_run: Option<String>,
}

impl Wound {
    pub(crate) fn of(node: usize) -> Self {
        Self { node: Some(node), ..Self::default() }
    }

    /// One that was over at an instant.
    pub(crate) fn healed(self, healed_at: DateTime<Utc>) -> Self {
        Self { healed_at: Some(healed_at), ..self }
    }
}

macro_rules! faults {
    ($($(#[doc = $doc:literal])* $variant:ident $name:literal => $strike:path,)*) => {
        /// A fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Fault {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Fault {
            /// All of them, in the order of a short round.
            pub(crate) const ALL: &[Self] = &[$(Self::$variant,)*];

            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Does it, and mends it again.
            pub(crate) async fn strike(self, stage: &mut Stage) -> anyhow::Result<Wound> {
                match self {
                    $(Self::$variant => $strike(stage).await,)*
                }
            }
        }
    };
}

faults! {
    /// SIGKILL to the leader.
    KillLeader "leader killed" => processes::kill_leader,
    /// SIGKILL to a follower.
    KillFollower "follower killed" => processes::kill_follower,
    /// SIGTERM to the leader.
    HandOver "leader told to stop" => processes::hand_over,
    /// SIGSTOP to the leader for longer than its lease.
    FreezeLeader "leader frozen" => processes::freeze_leader,
    /// SIGSTOP to the leader for less than its lease.
    FreezeBriefly "leader frozen briefly" => processes::freeze_briefly,
    /// SIGSTOP to a follower.
    FreezeFollower "follower frozen" => processes::freeze_follower,
    /// SIGSTOP to half of the nodes, the leader among them, for longer than their lease.
    FreezeHalf "half of the nodes frozen" => processes::freeze_half,
    /// The leader's wall clock is ten minutes ahead for a while.
    ClockAhead "leader's clock ahead" => processes::clock_ahead,
    /// The leader's wall clock is ten minutes behind for a while.
    ClockBehind "leader's clock behind" => processes::clock_behind,
    /// Nothing passes between the leader and the server.
    Stall "leader cut off" => network::stall,
    /// The leader's requests do not arrive.
    StallRequests "leader's requests held back" => network::stall_requests,
    /// The server's replies to the leader do not arrive.
    StallReplies "replies to the leader held back" => network::stall_replies,
    /// Nothing passes on the connection by which the leader leads.
    StallLeadership "leader's leadership cut off" => network::stall_leadership,
    /// Nothing passes on the connection by which the leader claims.
    StallSession "leader's session cut off" => network::stall_session,
    /// Nothing passes between a follower and the server.
    StallFollower "follower cut off" => network::stall_follower,
    /// Messages of all nodes take a while each way.
    Delay "messages delayed" => network::delay,
    /// Messages of the leader pass a few bytes at a time.
    Trickle "messages trickle" => network::trickle,
    /// The leader's connections are reset.
    Reset "connections reset" => network::reset,
    /// The connections of all nodes are reset.
    ResetAll "all connections reset" => network::reset_all,
    /// The leader hears of the end of its connections, the server does not.
    HalfCloseClient "half-closed, the server unaware" => network::half_close_client,
    /// The server hears of the end of the leader's connections, the leader does not.
    HalfCloseServer "half-closed, the leader unaware" => network::half_close_server,
    /// A claim is committed, its reply is lost.
    LostClaimReply "reply of a claim lost" => network::lost_claim_reply,
    /// The end of a run is committed, its reply is lost.
    LostEndReply "reply of an end lost" => network::lost_end_reply,
    /// The leader dies while the end of its claim has not reached the server, which does not hear of its
    /// death.
    HalfSentClaim "claim half sent by a leader that dies" => network::half_sent_claim,
    /// The same for the proof of a follower.
    HalfSentProof "proof half sent by a follower that dies" => network::half_sent_proof,
    /// The server process of the leader's session is ended.
    EndBackend "leader's session terminated" => servers::end_backend,
    /// The server process of the leader's session is frozen.
    FreezeBackend "leader's backend frozen" => servers::freeze_backend,
    /// A server process is killed: the server recovers as from a crash.
    CrashBackend "server crash" => servers::crash_backend,
    /// The server is stopped in order, and started again.
    Restart "server restarted" => servers::restart,
    /// The server ends as in a crash, is away for longer than a lease, and is started again.
    Outage "server away" => servers::outage,
    /// Every process of the server is frozen.
    FreezeServer "server frozen" => servers::freeze_server,
    /// A claim takes longer than the lease, and its node is frozen meanwhile.
    SlowClaim "leader frozen in a claim" => servers::slow_claim,
    /// The leader dies while its claim is under way.
    KillInClaim "leader killed in a claim" => servers::kill_in_claim,
    /// Somebody ends the term of the leader in the table while it claims, which the leader does not know.
    EndTerm "leader's term ended by hand" => servers::end_term,
    /// A foreign transaction holds the leader row for update.
    HoldLeaderRow "leader row held for update" => servers::hold_leader_row,
    /// A foreign transaction holds the leader row for share.
    ShareLeaderRow "leader row held for share" => servers::share_leader_row,
    /// A foreign transaction holds the rows of all jobs.
    HoldJobRows "rows of jobs held" => servers::hold_job_rows,
    /// The role gets a short statement_timeout, and all nodes connect again.
    StatementTimeout "statement_timeout of the role" => servers::statement_timeout,
    /// The role may connect no more, and its connections are ended.
    NoConnections "role without connections" => servers::no_connections,
    /// The nodes may not write the leader row any more.
    Rights "rights taken away" => servers::rights,
    /// The database is read-only.
    ReadOnly "server read-only" => servers::read_only,
    /// Every write fails as on a full disk.
    FullDisk "disk full (emulated)" => servers::full_disk,
    /// The server's log cannot grow: its file system is full.
    FullLogDisk "disk of the log full" => disk::full,
    /// A snapshot is held for long.
    LongSnapshot "long snapshot" => servers::long_snapshot,
    /// The synchronous standby does not answer for a while.
    StandbyLost "synchronous standby lost" => servers::standby_lost,
    /// The primary dies, its synchronous standby is promoted.
    Promotion "standby promoted" => servers::promotion,
    /// The synchronous standby does not answer for a while; then the primary dies, and it is promoted.
    LatePromotion "standby lost, then promoted" => servers::late_promotion,
    /// A stranger holds the leadership lock when the leader dies.
    StolenLeadership "leadership lock held by a stranger" => strangers::stolen_leadership,
    /// A stranger tells all nodes that the jobs are paused.
    ForgedPause "pause forged by a stranger" => strangers::forged_pause,
    /// A stranger tells all nodes to stop runs, and more than they can read.
    ForgedStop "stops forged by a stranger" => strangers::forged_stop,
    /// Two nodes reach the server through poolers only: one that gives each transaction another process, one
    /// that does not.
    Poolers "poolers between" => pooler::between,
}

/// What the nodes do not survive as they should, as far as is known, and why. It is done only if it is asked
/// for by name.
pub(crate) const OPEN: &[(Fault, &str)] = &[(
    Fault::FreezeBackend,
    "no server can end a process that stands still: it is named, and keeps its connection and its keys",
)];

impl Fault {
    /// Those of [`ALL`](Self::ALL) that are survived.
    pub(crate) fn survived() -> Vec<Self> {
        let open = |fault: &&Self| OPEN.iter().any(|(open, _)| open == *fault);
        Self::ALL.iter().filter(|fault| !open(fault)).copied().collect()
    }

    /// For how long nothing may run, if the fault lasts that long. These are no percentiles on a quiet
    /// machine, but what is wrong on any: each bound has a second for the steps that have no bound of their
    /// own, as many times as the machine is slower than alone.
    pub(crate) fn silence_max(self, lease: TimeDelta, lasted: TimeDelta, slowness: f64) -> TimeDelta {
        let steps = TimeDelta::milliseconds((1_000.0 * slowness) as i64);
        match self {
            // Nobody who leads is touched.
            Self::KillFollower
            | Self::ForgedPause
            | Self::ForgedStop
            | Self::FreezeFollower
            | Self::StallFollower => steps,
            // The next leader is there at once.
            Self::HandOver => steps,
            // Nobody waits for a lease: the server says that the session is over, and another one is opened.
            Self::KillLeader | Self::EndBackend | Self::Reset | Self::ResetAll | Self::Poolers => steps * 2,
            // The server looks twice a second whether the client of a statement is still there.
            Self::KillInClaim => steps * 2 + TimeDelta::milliseconds(500),
            // Who holds what others need, and is silent, is ended after its lease; a leader that is not heard
            // of is succeeded after its lease. A round trip of a tenth of the lease may cost a leader its
            // term.
            Self::LongSnapshot
            | Self::ShareLeaderRow
            | Self::HalfSentProof
            | Self::FreezeLeader
            | Self::FreezeHalf
            | Self::FreezeBriefly
            | Self::ClockAhead
            | Self::ClockBehind
            | Self::Stall
            | Self::StallRequests
            | Self::StallLeadership
            | Self::StallSession
            | Self::StallReplies
            | Self::Delay
            | Self::Trickle
            | Self::HalfCloseClient
            | Self::HalfCloseServer
            | Self::LostClaimReply
            | Self::LostEndReply
            | Self::HalfSentClaim
            | Self::FreezeBackend
            | Self::StatementTimeout
            | Self::EndTerm
            | Self::StolenLeadership => lease + steps,
            // Whoever waits for a row that somebody keeps locked asks again within a lease.
            Self::HoldLeaderRow | Self::HoldJobRows => lasted + lease + steps,
            // What the server refuses is asked again: after a pause that doubles, so after no more than it
            // was refused for, and at most 5 s.
            Self::Rights | Self::ReadOnly | Self::FullDisk => {
                lasted + lasted.min(TimeDelta::seconds(5)) + steps
            }
            // A session is opened again: within 2 s, if the server refused it. The term of a leader whose
            // session may be alive goes on for a lease.
            Self::CrashBackend
            | Self::FreezeServer
            | Self::Restart
            | Self::Outage
            | Self::NoConnections
            | Self::FullLogDisk
            | Self::StandbyLost
            | Self::Promotion
            | Self::LatePromotion => lasted + TimeDelta::seconds(2) + lease + steps,
            // The claim of whoever takes over may sleep as well.
            Self::SlowClaim => lasted + TimeDelta::seconds(LONG.as_secs().cast_signed()) + steps,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
