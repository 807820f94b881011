//! What a role does that may do nothing but connect.

use chrono::Utc;
use rustix::process::Signal;

use super::{LONG, Wound};
use crate::stage::{RECOVERY_MAX, Stage};

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
    let stranger = stage.store.stranger().await?;
    // As one who has found it out.
    let channel = format!("SELECT channel FROM {}.scopes", stage.plan.schema);
    let channel: String = stage.store.client().await?.query_one(&channel, &[]).await?.get(0);
    for job in &stage.plan.jobs {
        let forged = format!(
            "SELECT pg_notify('{channel}', json_build_object('pause', json_build_object('job', '{}', 'pause', json_build_object(
                 'until', NULL::text, 'note', 'forged')))::text)",
            job.name
        );
        stranger.batch_execute(&forged).await?;
    }
    stage.hold(LONG).await;
    Ok(Wound::default())
}
