//! A child process of a test, whose lines are waited for.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// A net under every wait: long enough for a busy machine. Nothing takes this long unless it is broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A child process, killed when it is dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
    lines: Receiver<String>,
    /// The lines of its output that were read so far.
    pub(crate) seen: Vec<String>,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
        let output = child.stdout.take().expect("a pipe");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// The next line that contains `text`. A line is passed over once.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let until = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => panic!("no line with {text:?} ({error}) after\n{}", self.seen.join("\n")),
            }
        }
    }

    /// Passes over the lines that are there.
    #[allow(dead_code, reason = "not every test waits for what comes after something else")]
    pub(crate) fn catch_up(&mut self) {
        self.seen.extend(self.lines.try_iter());
    }

    #[allow(dead_code, reason = "some processes end by themselves, or are killed")]
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Waits for its end: the exit code, and the lines that were not read before.
    #[allow(dead_code, reason = "some processes are killed")]
    pub(crate) fn end(&mut self) -> (Option<i32>, Vec<String>) {
        self.end_within(DEADLINE)
    }

    /// The same, of one that may take so long.
    #[allow(dead_code, reason = "some processes are killed")]
    pub(crate) fn end_within(&mut self, time: Duration) -> (Option<i32>, Vec<String>) {
        let from = self.seen.len();
        let until = Instant::now() + time;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end:\n{}", self.seen.join("\n")),
            }
        }
        (self.child.wait().expect("it has ended").code(), self.seen.split_off(from))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error: it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
