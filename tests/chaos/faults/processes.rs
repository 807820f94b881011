//! What is done to the processes of nodes.

use std::time::Duration;

use chrono::Utc;
use rustix::process::Signal;

use super::{LONG, SHORT, Wound};
use crate::stage::Stage;

pub(crate) async fn kill_leader(stage: &mut Stage) -> anyhow::Result<Wound> {
    let leader = stage.a_leader().await?;
    let struck_at = Utc::now();
    stage.end(leader, Signal::KILL).await?;
    stage.succeeded(leader).await?;
    Ok(Wound { struck_at: Some(struck_at), ..Wound::of(leader) }.healed(struck_at))
}

pub(crate) async fn kill_follower(stage: &mut Stage) -> anyhow::Result<Wound> {
    let follower = stage.a_follower().await?;
    let struck_at = Utc::now();
    stage.end(follower, Signal::KILL).await?;
    stage.hold(SHORT).await;
    Ok(Wound::of(follower).healed(struck_at))
}

pub(crate) async fn hand_over(stage: &mut Stage) -> anyhow::Result<Wound> {
    let leader = stage.a_leader().await?;
    let struck_at = Utc::now();
    stage.cluster.signal(leader, Signal::TERM)?;
    stage.succeeded(leader).await?;
    stage.cluster.end(leader).await?;
    Ok(Wound { struck_at: Some(struck_at), ..Wound::of(leader) }.healed(struck_at))
}

pub(crate) async fn freeze_leader(stage: &mut Stage) -> anyhow::Result<Wound> {
    let leader = stage.a_leader().await?;
    freeze(stage, leader, LONG).await
}

pub(crate) async fn freeze_briefly(stage: &mut Stage) -> anyhow::Result<Wound> {
    let leader = stage.a_leader().await?;
    freeze(stage, leader, SHORT).await
}

pub(crate) async fn freeze_follower(stage: &mut Stage) -> anyhow::Result<Wound> {
    let follower = stage.a_follower().await?;
    freeze(stage, follower, LONG).await
}

pub(crate) async fn freeze_half(stage: &mut Stage) -> anyhow::Result<Wound> {
    let leader = stage.a_leader().await?;
    let others = stage.living().filter(|node| *node != leader);
    let half: Vec<_> = [leader].into_iter().chain(others).collect();
    let half = &half[..half.len() / 2];
    for node in half {
        stage.freeze(*node)?;
    }
    stage.hold(stage.plan.lease * 2).await;
    for node in half {
        stage.thaw(*node)?;
    }
    Ok(Wound::of(leader))
}

async fn freeze(stage: &mut Stage, node: usize, time: Duration) -> anyhow::Result<Wound> {
    stage.freeze(node)?;
    stage.hold(time).await;
    stage.thaw(node)?;
    Ok(Wound::of(node))
}

pub(crate) async fn clock_ahead(stage: &mut Stage) -> anyhow::Result<Wound> {
    set_clock(stage, "+600").await
}

pub(crate) async fn clock_behind(stage: &mut Stage) -> anyhow::Result<Wound> {
    set_clock(stage, "-600").await
}

async fn set_clock(stage: &mut Stage, offset: &str) -> anyhow::Result<Wound> {
    let leader = stage.a_leader().await?;
    stage.clocks[leader].set(offset);
    stage.hold(LONG).await;
    stage.clocks[leader].set("+0");
    Ok(Wound::of(leader))
}
