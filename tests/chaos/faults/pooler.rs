//! What stands between a node and its server, and hands its statements on: PgBouncer.

use std::{
    fs,
    process::{Child, Stdio},
};

use anyhow::Context;
use tempfile::TempDir;

use super::Wound;
use crate::{
    harness,
    proxy::Cut,
    stage::{RECOVERY_MAX, Stage},
    store::{NODES, Store},
};

/// What a node says of one.
const NAMED: &str = "a pooler stands between";

/// A pooler, ended with its directory when it is dropped, or when this process ends.
struct Pooler {
    port: u16,
    watchdog: Child,
    _directory: TempDir,
}

impl Pooler {
    /// One before the server at a port, with further lines of its configuration.
    fn start(server: u16, role: &str, more: &str) -> anyhow::Result<Self> {
        let directory = TempDir::with_prefix("callsheet-pooler-")?;
        harness::give(directory.path());
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let password = harness::PASSWORD;
        let configuration = directory.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n\
             * = host=127.0.0.1 port={server} user={role} password={password}\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = any\n\
             {more}\n"
        );
        fs::write(&configuration, text)?;
        harness::give(&configuration);
        let watchdog = harness::unprivileged("/bin/sh")
            .args(["-c", r#"pgbouncer -q "$1" </dev/null & read -r _; kill $!; wait"#, "pooler"])
            .arg(&configuration)
            .env("PATH", "/usr/sbin:/usr/bin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { port, watchdog, _directory: directory })
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        // An error: it has ended already.
        let _ = self.watchdog.wait();
    }
}

/// Each node that finds itself behind one says so, and holds nothing until it reaches the server itself.
pub(crate) async fn between(stage: &mut Stage) -> anyhow::Result<Wound> {
    let leader = stage.a_leader().await?;
    let follower = stage.a_follower().await?;
    let (server, role) = (stage.store.address(), NODES);
    let all = "pool_mode = transaction\nignore_startup_parameters = options, extra_float_digits";
    let some = "pool_mode = session\nignore_startup_parameters = extra_float_digits";
    let poolers = [
        (leader, Pooler::start(server, role, all).context("pgbouncer")?),
        (follower, Pooler::start(server, role, some).context("pgbouncer")?),
    ];
    let struck_at = chrono::Utc::now();
    for (node, pooler) in &poolers {
        stage.proxies[*node].lead_to(pooler.port);
        stage.proxies[*node].cut(Cut::Reset);
    }
    let named = |stage: &Stage, node: usize| {
        let heard = stage.cluster.heard.iter().rev().take_while(|(_, said)| said.heard_at > struck_at);
        let mut problems = heard.filter(|(by, _)| *by == node).filter_map(|(_, said)| said.problems.as_ref());
        problems.any(|problems| problems.iter().any(|problem| problem.contains(NAMED)))
    };
    for (node, _) in &poolers {
        stage.until("the pooler is named", RECOVERY_MAX, |stage| named(stage, *node)).await?;
    }
    for (node, _) in &poolers {
        stage.proxies[*node].lead_to(server);
    }
    Ok(Wound::of(leader))
}
