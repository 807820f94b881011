//! What is done to the messages between nodes and the server.

use std::time::Duration;

use anyhow::Context;
use rustix::process::Signal;
use tokio::time::timeout;

use super::{LONG, SHORT, Wound};
use crate::{
    proxy::{Cut, Flow, Flows, Trap},
    stage::{RECOVERY_MAX, Stage},
};

/// How long a message is delayed each way: a round trip is a tenth of the lease.
const DELAY: Duration = Duration::from_millis(100);
/// The pause between two parts of a message.
const TRICKLE: Duration = Duration::from_millis(1);
/// In the statements that claim, that end runs, and that prove that a claim would be possible.
const CLAIM: &str = "AS tokens";
const END: &str = "outcome IN ('failed', 'panicked', 'timed_out')";
const PROOF: &str = "AS overdue_since,";

const STALLED: Flows = Flows { requests: Flow::Stall, replies: Flow::Stall, only: None };

async fn flow(stage: &mut Stage, node: usize, flows: Flows) -> anyhow::Result<Wound> {
    stage.proxies[node].set(flows);
    stage.hold(LONG).await;
    stage.proxies[node].heal();
    Ok(Wound::of(node))
}

pub(crate) async fn stall(stage: &mut Stage) -> anyhow::Result<Wound> {
    let leader = stage.a_leader().await?;
    flow(stage, leader, STALLED).await
}

pub(crate) async fn stall_requests(stage: &mut Stage) -> anyhow::Result<Wound> {
    let leader = stage.a_leader().await?;
    flow(stage, leader, Flows { replies: Flow::Pass, ..STALLED }).await
}

pub(crate) async fn stall_replies(stage: &mut Stage) -> anyhow::Result<Wound> {
    let leader = stage.a_leader().await?;
    flow(stage, leader, Flows { requests: Flow::Pass, ..STALLED }).await
}

pub(crate) async fn stall_leadership(stage: &mut Stage) -> anyhow::Result<Wound> {
    let leader = stage.a_leader().await?;
    flow(stage, leader, Flows { only: Some(" leadership "), ..STALLED }).await
}

pub(crate) async fn stall_session(stage: &mut Stage) -> anyhow::Result<Wound> {
    let leader = stage.a_leader().await?;
    flow(stage, leader, Flows { only: Some(" session "), ..STALLED }).await
}

pub(crate) async fn stall_follower(stage: &mut Stage) -> anyhow::Result<Wound> {
    let follower = stage.a_follower().await?;
    flow(stage, follower, STALLED).await
}

pub(crate) async fn delay(stage: &mut Stage) -> anyhow::Result<Wound> {
    let nodes: Vec<_> = stage.living().collect();
    for node in &nodes {
        stage.proxies[*node].set(Flows {
            requests: Flow::Delay(DELAY),
            replies: Flow::Delay(DELAY),
            only: None,
        });
    }
    stage.hold(LONG).await;
    for node in nodes {
        stage.proxies[node].heal();
    }
    Ok(Wound::default())
}

pub(crate) async fn trickle(stage: &mut Stage) -> anyhow::Result<Wound> {
    let leader = stage.a_leader().await?;
    flow(
        stage,
        leader,
        Flows { requests: Flow::Trickle(TRICKLE), replies: Flow::Trickle(TRICKLE), only: None },
    )
    .await
}

pub(crate) async fn reset(stage: &mut Stage) -> anyhow::Result<Wound> {
    let leader = stage.a_leader().await?;
    stage.proxies[leader].cut(Cut::Reset);
    Ok(Wound::of(leader))
}

pub(crate) async fn reset_all(stage: &mut Stage) -> anyhow::Result<Wound> {
    for node in stage.living() {
        stage.proxies[node].cut(Cut::Reset);
    }
    Ok(Wound::default())
}

pub(crate) async fn half_close_client(stage: &mut Stage) -> anyhow::Result<Wound> {
    half_close(stage, Cut::ClientOnly).await
}

pub(crate) async fn half_close_server(stage: &mut Stage) -> anyhow::Result<Wound> {
    half_close(stage, Cut::ServerOnly).await
}

async fn half_close(stage: &mut Stage, how: Cut) -> anyhow::Result<Wound> {
    let leader = stage.a_leader().await?;
    stage.proxies[leader].cut(how);
    stage.hold(LONG).await;
    stage.proxies[leader].heal();
    Ok(Wound::of(leader))
}

pub(crate) async fn lost_claim_reply(stage: &mut Stage) -> anyhow::Result<Wound> {
    let leader = stage.a_leader().await?;
    spring(stage, leader, Trap::DropReply(CLAIM)).await?;
    Ok(Wound::of(leader))
}

pub(crate) async fn lost_end_reply(stage: &mut Stage) -> anyhow::Result<Wound> {
    let leader = stage.a_leader().await?;
    spring(stage, leader, Trap::DropReply(END)).await?;
    Ok(Wound::of(leader))
}

pub(crate) async fn half_sent_claim(stage: &mut Stage) -> anyhow::Result<Wound> {
    let leader = stage.a_leader().await?;
    half_send(stage, leader, CLAIM).await
}

pub(crate) async fn half_sent_proof(stage: &mut Stage) -> anyhow::Result<Wound> {
    let follower = stage.a_follower().await?;
    half_send(stage, follower, PROOF).await
}

/// The server waits for the end of a statement that has locked its rows, and nobody tells it that its client
/// is gone.
async fn half_send(stage: &mut Stage, node: usize, part: &'static str) -> anyhow::Result<Wound> {
    spring(stage, node, Trap::WithholdSync(part)).await?;
    let struck_at = chrono::Utc::now();
    // What comes after its death is held back as well.
    stage.proxies[node].set(STALLED);
    stage.end(node, Signal::KILL).await?;
    // A leader claims for most of a lease before it misses its renewal: without an end nothing runs for the
    // rest.
    stage.hold(LONG + SHORT).await;
    stage.proxies[node].heal();
    Ok(Wound { struck_at: Some(struck_at), ..Wound::of(node) })
}

async fn spring(stage: &mut Stage, node: usize, trap: Trap) -> anyhow::Result<()> {
    let proxy = stage.proxies[node].clone();
    let sprung = stage.hold_while(timeout(RECOVERY_MAX, proxy.trap(trap))).await;
    sprung.with_context(|| format!("nothing sprang {trap:?}"))
}
