//! What a role does that may do nothing but connect.

use chrono::Utc;
use rustix::process::Signal;
use serde_json::json;
use uuid::Uuid;

use super::{LONG, SHORT, Wound};
use crate::stage::{RECOVERY_MAX, Stage};

/// How many stops are forged for each beacon.
const STOPS: usize = 1_000;

pub(crate) async fn stolen_leadership(stage: &mut Stage) -> anyhow::Result<Wound> {
    let leader = stage.a_leader().await?;
    let stranger = stage.store.stranger().await?;
    let take = format!(
        "SELECT pg_advisory_lock(hashtextextended('callsheet leader ' || '{}' || '/' || 'failover', 0))",
        stage.plan.schema
    );
    let struck_at = Utc::now();
    // It waits in the queue before the candidates, or is given the lock between two of their slices.
    let taken = tokio::spawn(async move { stranger.batch_execute(&take).await.map(|()| stranger) });
    stage.hold(LONG / 10).await;
    stage.end(leader, Signal::KILL).await?;
    let stranger = stage.hold_while(tokio::time::timeout(RECOVERY_MAX, taken)).await???;
    stage.hold(LONG).await;
    drop(stranger);
    Ok(Wound { struck_at: Some(struck_at), ..Wound::of(leader) })
}

pub(crate) async fn forged_pause(stage: &mut Stage) -> anyhow::Result<Wound> {
    let (stranger, channel) = (stage.store.stranger().await?, channel(stage).await?);
    for job in &stage.plan.jobs {
        let pause = json!({ "pause": { "job": job.name, "pause": { "until": null, "note": "forged" } } });
        stranger.execute("SELECT pg_notify($1, $2)", &[&channel, &pause.to_string()]).await?;
    }
    stage.hold(LONG).await;
    Ok(Wound::default())
}

pub(crate) async fn forged_stop(stage: &mut Stage) -> anyhow::Result<Wound> {
    let (stranger, channel) = (stage.store.stranger().await?, channel(stage).await?);
    // Everybody sees the beacons. Of runs only the tables tell: it has to guess.
    let beacons = "SELECT classid::int8 << 32 | objid::int8 FROM pg_locks WHERE locktype = 'advisory'";
    let mut stops = Vec::new();
    for row in stranger.query(beacons, &[]).await? {
        let beacon: i64 = row.try_get(0)?;
        let stop = |_| json!({ "stop": { "beacon": beacon, "run": Uuid::now_v7().to_string() } }).to_string();
        stops.extend((0..STOPS).map(stop));
    }
    // In one transaction: they are there at once.
    let notify = "SELECT count(pg_notify($1, stop)) FROM unnest($2::text[]) AS s (stop)";
    stranger.execute(notify, &[&channel, &stops]).await?;
    stage.hold(SHORT).await;
    Ok(Wound::default())
}

/// The channel of the nodes, as one who has found it out.
async fn channel(stage: &Stage) -> anyhow::Result<String> {
    let channel = format!("SELECT channel FROM {}.scopes", stage.plan.schema);
    Ok(stage.store.client().await?.query_one(&channel, &[]).await?.try_get(0)?)
}
