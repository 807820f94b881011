//! The processes of the cluster, and everything they say.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};

use super::{
    history::{ENDED, Said},
    node::{FROM_INPUT, PLAN, Plan},
};

/// A net under every wait. Nothing takes this long unless it is broken.
const DEADLINE: Duration = Duration::from_secs(60);

/// The longest plan that fits into a variable, in bytes.
const VARIABLE_MAX: usize = 100_000;

/// Nodes, by number. Whatever is left of them is killed when it is dropped.
pub(crate) struct Cluster {
    nodes: Vec<Child>,
    sender: mpsc::UnboundedSender<(usize, Said)>,
    receiver: mpsc::UnboundedReceiver<(usize, Said)>,
    /// Everything that was heard so far, in the order of hearing.
    pub(crate) heard: Vec<(usize, Said)>,
    /// The nodes whose ends were heard.
    ended: HashSet<usize>,
}

impl Cluster {
    /// A cluster without nodes.
    pub(crate) fn new() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self { nodes: Vec::new(), sender, receiver, heard: Vec::new(), ended: HashSet::new() }
    }

    /// Starts another node and waits until it is one. The command makes a process a node once it is given a plan.
    pub(crate) async fn start(&mut self, mut command: Command, plan: Plan) -> anyhow::Result<usize> {
        let node = self.nodes.len();
        let plan = serde_json::to_string(&Plan { node, ..plan })?;
        // Its own process group: an interrupt at the terminal is for this process, which ends the others in order.
        let is_long = plan.len() > VARIABLE_MAX;
        command.env(PLAN, if is_long { FROM_INPUT } else { &plan });
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn().context("a node was not started")?;
        if is_long {
            writeln!(child.stdin.as_ref().context("a node has no input")?, "{plan}")?;
        }
        let output = child.stdout.take().context("a node has no output")?;
        self.nodes.push(child);
        let sender = self.sender.clone();
        thread::spawn(move || {
            // What is not an event was printed by somebody else: the frame of a test.
            let events = BufReader::new(output).lines().map_while(Result::ok);
            for said in events.filter_map(|line| serde_json::from_str(&line).ok()) {
                // An error: nobody listens any more.
                let _ = sender.send((node, said));
            }
            let _ = sender.send((node, Said::ended()));
        });
        let is_up = |by, said: &Said| by == node && (said.event == "ready" || said.event == ENDED);
        let (_, said) = self.wait_for("a node that is ready", is_up).await?;
        ensure!(said.event == "ready", "node {node} ended before it was ready");
        Ok(node)
    }

    /// The next event of which `wanted` says yes, and who said it.
    pub(crate) async fn wait_for(
        &mut self,
        what: &str,
        wanted: impl Fn(usize, &Said) -> bool,
    ) -> anyhow::Result<(usize, Said)> {
        let until = Instant::now() + DEADLINE;
        loop {
            let next = timeout_at(until, self.receiver.recv()).await.ok().flatten();
            let (node, said) = next.with_context(|| format!("{what} was not seen in {DEADLINE:?}"))?;
            self.heard.push((node, said.clone()));
            if said.event == ENDED {
                self.ended.insert(node);
            }
            if wanted(node, &said) {
                return Ok((node, said));
            }
        }
    }

    /// Hears everything that is said for a while.
    pub(crate) async fn listen_for(&mut self, time: Duration) {
        // It ends with the time, and in no other way.
        let _ = timeout(time, self.wait_for("nothing", |_, _| false)).await;
    }

    /// Sends a signal to a node. Answers the instant before.
    pub(crate) fn signal(&self, node: usize, signal: Signal) -> anyhow::Result<DateTime<Utc>> {
        let at = Utc::now();
        kill_process(Pid::from_child(&self.nodes[node]), signal)?;
        Ok(at)
    }

    /// Waits for the end of a node, and hears its last words.
    pub(crate) async fn end(&mut self, node: usize) -> anyhow::Result<ExitStatus> {
        if !self.has_ended(node) {
            self.wait_for("the end of a node", |by, said| by == node && said.event == ENDED).await?;
        }
        Ok(self.nodes[node].wait()?)
    }

    /// Tells every node that is left to stop, one after the other, and waits for it.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        for node in 0..self.nodes.len() {
            if !self.has_ended(node) {
                self.signal(node, Signal::TERM)?;
                let status = self.end(node).await?;
                ensure!(status.success(), "node {node} ended with {status}");
            }
        }
        Ok(())
    }

    /// Whether the end of a node was heard.
    pub(crate) fn has_ended(&self, node: usize) -> bool {
        self.ended.contains(&node)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // An error: it has ended already.
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}
