//! What is done to the server, and on it.

use std::time::Duration;

use anyhow::Context;
use chrono::Utc;
use rustix::process::Signal;
use tokio::task::block_in_place;

use super::{LONG, SHORT, Wound};
use crate::{
    harness::{Server, Stop},
    stage::{RECOVERY_MAX, Stage},
    store::{self, Store},
};

/// How long a server may take to recover, to be copied, or to be promoted.
pub(super) const SERVER_MAX: Duration = Duration::from_secs(30);

pub(crate) async fn end_backend(stage: &mut Stage) -> anyhow::Result<Wound> {
    let leader = stage.a_leader().await?;
    let pid = stage.store.backend_of(&stage.id(leader)?).await?;
    stage.store.run(&format!("SELECT pg_terminate_backend({pid})")).await?;
    Ok(Wound::of(leader))
}

pub(crate) async fn freeze_backend(stage: &mut Stage) -> anyhow::Result<Wound> {
    let leader = stage.a_leader().await?;
    let pid = stage.store.backend_of(&stage.id(leader)?).await?;
    let frozen = stage.store.freeze(pid).await?;
    stage.hold(LONG + LONG).await;
    drop(frozen);
    Ok(Wound::of(leader))
}

pub(crate) async fn crash_backend(stage: &mut Stage) -> anyhow::Result<Wound> {
    let leader = stage.a_leader().await?;
    let pid = stage.store.backend_of(&stage.id(leader)?).await?;
    store::signal(pid, Signal::KILL)?;
    until_answers(stage).await?;
    Ok(Wound::default())
}

pub(crate) async fn restart(stage: &mut Stage) -> anyhow::Result<Wound> {
    block_in_place(|| {
        stage.store.stop(Stop::Fast);
        stage.store.restart();
    });
    Ok(Wound::default())
}

pub(crate) async fn outage(stage: &mut Stage) -> anyhow::Result<Wound> {
    block_in_place(|| stage.store.stop(Stop::Immediate));
    stage.hold(LONG).await;
    block_in_place(|| stage.store.restart());
    Ok(Wound::default())
}

pub(crate) async fn freeze_server(stage: &mut Stage) -> anyhow::Result<Wound> {
    let pid = "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int8";
    let server = stage.store.number(pid).await?;
    let all: Vec<_> = [server].into_iter().chain(children(server)).collect();
    for pid in &all {
        // An error: it has just ended.
        let _ = store::signal(*pid, Signal::STOP);
    }
    stage.hold(LONG).await;
    for pid in &all {
        let _ = store::signal(*pid, Signal::CONT);
    }
    Ok(Wound::default())
}

/// The processes that a process has started.
fn children(parent: i64) -> impl Iterator<Item = i64> {
    let processes = std::fs::read_dir("/proc").expect("a proc file system").flatten();
    processes.filter_map(move |process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        // An error: it has just ended. Its name, in brackets, may hold anything.
        let status = std::fs::read_to_string(process.path().join("stat")).ok()?;
        let of: i64 = status.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
        (of == parent).then_some(pid)
    })
}

/// Waits until the server takes connections.
async fn until_answers(stage: &mut Stage) -> anyhow::Result<()> {
    let until = std::time::Instant::now() + SERVER_MAX;
    while let Err(error) = stage.store.client().await {
        anyhow::ensure!(std::time::Instant::now() < until, "the server does not come back: {error:#}");
        stage.hold(SHORT / 10).await;
    }
    Ok(())
}

/// Lets every claim of a job sleep for so long, and waits until the leader's does.
async fn let_claims_sleep(stage: &mut Stage, time: Duration) -> anyhow::Result<()> {
    // Before the triggers that write moves down, which see what is so by then.
    let slow = format!(
        "CREATE FUNCTION {{}}.slow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep({}); RETURN NULL; END $$;
CREATE TRIGGER a_slow AFTER UPDATE ON {{}}.names FOR EACH ROW
WHEN (NEW.name = 'often' AND OLD.run IS NULL AND NEW.run IS NOT NULL) EXECUTE FUNCTION {{}}.slow()",
        time.as_secs_f64()
    );
    stage.store.run_all(&slow.replace("{}", &stage.plan.schema)).await?;
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let until = std::time::Instant::now() + SERVER_MAX;
    while stage.store.number(asleep).await? == 0 {
        anyhow::ensure!(std::time::Instant::now() < until, "nobody claims");
        stage.hold(SHORT / 50).await;
    }
    Ok(())
}

async fn let_claims_pass(stage: &Stage) -> anyhow::Result<()> {
    stage.store.run(&format!("DROP FUNCTION {}.slow() CASCADE", stage.plan.schema)).await
}

pub(crate) async fn slow_claim(stage: &mut Stage) -> anyhow::Result<Wound> {
    let leader = stage.a_leader().await?;
    let_claims_sleep(stage, LONG).await?;
    stage.freeze(leader)?;
    let struck_at = Utc::now();
    stage.hold(LONG).await;
    let_claims_pass(stage).await?;
    stage.hold(SHORT).await;
    stage.thaw(leader)?;
    Ok(Wound { struck_at: Some(struck_at), ..Wound::of(leader) })
}

pub(crate) async fn kill_in_claim(stage: &mut Stage) -> anyhow::Result<Wound> {
    let leader = stage.a_leader().await?;
    let_claims_sleep(stage, LONG * 2).await?;
    let struck_at = Utc::now();
    stage.cluster.signal(leader, Signal::KILL)?;
    // It waits for the claim, and everybody who claims waits for it.
    let_claims_pass(stage).await?;
    stage.cluster.end(leader).await?;
    stage.succeeded(leader).await?;
    Ok(Wound { struck_at: Some(struck_at), ..Wound::of(leader) }.healed(struck_at))
}

/// The leader goes on with its term until it hears that another one was granted. Its next claim waits for the row, and
/// finds another term there: that is so however slow the machine is.
pub(crate) async fn end_term(stage: &mut Stage) -> anyhow::Result<Wound> {
    let leader = stage.a_leader().await?;
    let client = stage.store.client().await?;
    let ended = format!(
        "DO $$ DECLARE until timestamptz := clock_timestamp() + interval '{} s';
BEGIN
    UPDATE {}.leader SET epoch = epoch + 1, expires_at = clock_timestamp();
    LOOP
        PERFORM pg_stat_clear_snapshot();
        -- Only claims lock the epoch.
        EXIT WHEN EXISTS (SELECT FROM pg_stat_activity
                          WHERE query LIKE '%FOR KEY SHARE%' AND pg_backend_pid() = ANY (pg_blocking_pids(pid)));
        IF clock_timestamp() > until THEN RAISE 'nobody claims'; END IF;
        PERFORM pg_sleep(0.002);
    END LOOP;
END $$",
        SERVER_MAX.as_secs(),
        stage.plan.schema
    );
    stage.hold_while(client.batch_execute(&ended)).await?;
    stage.hold(LONG / 2).await;
    Ok(Wound::of(leader))
}

pub(crate) async fn hold_leader_row(stage: &mut Stage) -> anyhow::Result<Wound> {
    lock(stage, "SELECT FROM {}.leader FOR UPDATE").await
}

pub(crate) async fn share_leader_row(stage: &mut Stage) -> anyhow::Result<Wound> {
    let client = stage.store.colleague().await?;
    let lock = format!("BEGIN; SELECT FROM {}.leader FOR SHARE", stage.plan.schema);
    client.batch_execute(&lock).await?;
    let until = std::time::Instant::now() + SERVER_MAX;
    while !client.is_closed() {
        anyhow::ensure!(std::time::Instant::now() < until, "nobody ended it");
        stage.hold(SHORT / 10).await;
    }
    Ok(Wound::default())
}

pub(crate) async fn hold_job_rows(stage: &mut Stage) -> anyhow::Result<Wound> {
    lock(stage, "SELECT FROM {}.names FOR UPDATE").await
}

pub(crate) async fn long_snapshot(stage: &mut Stage) -> anyhow::Result<Wound> {
    lock(stage, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM {}.names").await
}

/// Somebody else's transaction does something, and stays open.
async fn lock(stage: &mut Stage, what: &str) -> anyhow::Result<Wound> {
    let client = stage.store.client().await?;
    let what = what.replace("{}", &stage.plan.schema);
    client.batch_execute(&format!("BEGIN; {what}")).await?;
    stage.hold(LONG).await;
    client.batch_execute("ROLLBACK").await?;
    Ok(Wound::default())
}

/// Changes something, and back again.
async fn change(stage: &mut Stage, there: &str, back: &str) -> anyhow::Result<Wound> {
    let of_schema = |statements: &str| statements.replace("{}", &stage.plan.schema);
    let (there, back) = (of_schema(there), of_schema(back));
    stage.store.run(&there).await?;
    stage.hold(LONG).await;
    stage.store.run(&back).await?;
    Ok(Wound::default())
}

pub(crate) async fn statement_timeout(stage: &mut Stage) -> anyhow::Result<Wound> {
    stage.store.run("ALTER ROLE nodes SET statement_timeout = '100ms'").await?;
    stage.store.end_sessions().await?;
    let healed_at = Utc::now();
    stage.hold(LONG).await;
    let leader = stage.a_leader().await?;
    // The campaigns of all nodes have seen it; so has a hand-over.
    stage.cluster.signal(leader, Signal::TERM)?;
    stage.succeeded(leader).await?;
    stage.cluster.end(leader).await?;
    stage.store.run("ALTER ROLE nodes RESET statement_timeout").await?;
    Ok(Wound::default().healed(healed_at))
}

pub(crate) async fn no_connections(stage: &mut Stage) -> anyhow::Result<Wound> {
    stage.store.run("ALTER ROLE nodes CONNECTION LIMIT 0").await?;
    stage.store.end_sessions().await?;
    stage.hold(LONG).await;
    stage.store.run("ALTER ROLE nodes CONNECTION LIMIT -1").await?;
    Ok(Wound::default())
}

pub(crate) async fn rights(stage: &mut Stage) -> anyhow::Result<Wound> {
    change(stage, "REVOKE UPDATE ON {}.leader FROM nodes", "GRANT UPDATE ON {}.leader TO nodes").await
}

pub(crate) async fn read_only(stage: &mut Stage) -> anyhow::Result<Wound> {
    let set = |value: &str| {
        format!(
            "SET default_transaction_read_only = off;
ALTER SYSTEM SET default_transaction_read_only = {value};
SELECT pg_reload_conf()"
        )
    };
    stage.store.run(&set("on")).await?;
    stage.hold(LONG).await;
    stage.store.run(&set("off")).await?;
    Ok(Wound::default())
}

pub(crate) async fn full_disk(stage: &mut Stage) -> anyhow::Result<Wound> {
    let there = "CREATE FUNCTION {}.no_space() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'could not extend file: no space left on device' USING ERRCODE = '53100'; END $$;
CREATE TRIGGER no_space BEFORE INSERT OR UPDATE ON {}.leader FOR EACH ROW EXECUTE FUNCTION {}.no_space();
CREATE TRIGGER no_space BEFORE INSERT OR UPDATE ON {}.names FOR EACH ROW EXECUTE FUNCTION {}.no_space();
CREATE TRIGGER no_space BEFORE INSERT OR UPDATE ON {}.runs FOR EACH ROW EXECUTE FUNCTION {}.no_space()";
    change(stage, there, "DROP FUNCTION {}.no_space() CASCADE").await
}

/// A standby that follows, and without which nothing is committed.
async fn synchronous_standby(stage: &mut Stage) -> anyhow::Result<()> {
    let standby = block_in_place(|| Server::standby_of(&stage.store.server));
    stage.store.standby = Some(standby);
    stage.store.run("ALTER SYSTEM SET synchronous_standby_names = '*';\nSELECT pg_reload_conf()").await?;
    let until = std::time::Instant::now() + SERVER_MAX;
    while stage.store.number("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'").await? == 0
    {
        anyhow::ensure!(std::time::Instant::now() < until, "the standby does not follow");
        stage.hold(SHORT / 10).await;
    }
    Ok(())
}

async fn without_standby(stage: &mut Stage) -> anyhow::Result<()> {
    // Not by a statement that commits: it would wait for the standby.
    stage.store.run("ALTER SYSTEM RESET synchronous_standby_names;\nSELECT pg_reload_conf()").await
}

pub(crate) async fn standby_lost(stage: &mut Stage) -> anyhow::Result<Wound> {
    synchronous_standby(stage).await?;
    let struck_at = Utc::now();
    let sender = "SELECT pid::int8 FROM pg_stat_replication LIMIT 1";
    let pid = stage.store.number(sender).await?;
    let frozen = stage.store.freeze(pid).await?;
    stage.hold(LONG + LONG).await;
    drop(frozen);
    let healed_at = Utc::now();
    stage.hold(SHORT).await;
    without_standby(stage).await?;
    // It blocks until the server is gone.
    block_in_place(|| stage.store.standby = None);
    Ok(Wound { struck_at: Some(struck_at), ..Wound::default() }.healed(healed_at))
}

pub(crate) async fn promotion(stage: &mut Stage) -> anyhow::Result<Wound> {
    synchronous_standby(stage).await?;
    stage.hold(SHORT).await;
    let struck_at = Utc::now();
    promote(stage).await?;
    Ok(Wound { struck_at: Some(struck_at), ..Wound::default() })
}

/// What is committed while the standby is away is on the primary alone: whoever had its wait for the standby
/// cut short must not rely on it.
pub(crate) async fn late_promotion(stage: &mut Stage) -> anyhow::Result<Wound> {
    synchronous_standby(stage).await?;
    stage.hold(SHORT).await;
    let struck_at = Utc::now();
    let pid = stage.store.number("SELECT pid::int8 FROM pg_stat_replication LIMIT 1").await?;
    let frozen = stage.store.freeze(pid).await?;
    stage.hold(LONG).await;
    promote(stage).await?;
    drop(frozen);
    Ok(Wound { struck_at: Some(struck_at), ..Wound::default() })
}

/// Ends the primary at once, and goes on with its standby.
async fn promote(stage: &mut Stage) -> anyhow::Result<()> {
    let standby = stage.store.standby.take().context("a standby")?;
    // The primary is gone at once, with all that its standby has not got.
    let primary = std::mem::replace(&mut stage.store.server, standby);
    block_in_place(|| drop(primary));
    stage.store.run("SELECT pg_promote()").await?;
    let port = stage.store.address();
    for proxy in &stage.proxies {
        proxy.lead_to(port);
    }
    stage.watch.lead_to(port);
    without_standby(stage).await?;
    let until = std::time::Instant::now() + RECOVERY_MAX;
    while stage.store.number("SELECT pg_is_in_recovery()::int::int8").await.unwrap_or(1) != 0 {
        anyhow::ensure!(std::time::Instant::now() < until, "the standby was not promoted");
        stage.hold(SHORT / 10).await;
    }
    Ok(())
}
