//! The example `notify` against a small server: what it sends to the webhook and to the dead-man service, and that
//! neither delays a run.

#[path = "common/example.rs"]
mod example;
mod process;

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use example::example;
use process::{DEADLINE, Process};
use rustix::process::Signal;
use tempfile::TempDir;

const HOOK: &str = "/hooks/T0SECRET";
const CHECK: &str = "/ping/C0SECRET";

/// Never answers.
const SILENT: u16 = 0;

/// A request that came: its path without the secret, and its body.
type Request = (String, String);

/// Answers requests to the webhook as it is told to, and those to the dead-man service well.
struct Server {
    port: u16,
    webhook_answers: Arc<AtomicU16>,
    hooks: Receiver<Request>,
    checks: Receiver<Request>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("it listens").port();
        let (webhook_answers, (hook, hooks), (check, checks)) =
            (Arc::new(AtomicU16::new(200)), mpsc::channel(), mpsc::channel());
        let answers = webhook_answers.clone();
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let (answers, hook, check) = (answers.clone(), hook.clone(), check.clone());
                thread::spawn(move || serve(connection, &answers, &hook, &check));
            }
        });
        Self { port, webhook_answers, hooks, checks }
    }

    fn answer(&self, status: u16) {
        self.webhook_answers.store(status, Ordering::SeqCst);
    }

    /// The next message to the webhook.
    fn next_hook(&self) -> String {
        next(&self.hooks).1
    }

    /// The check-ins up to and including the first of this path.
    fn checks_until(&self, path: &str) -> Vec<Request> {
        let mut seen = Vec::new();
        while seen.last().is_none_or(|(last, _): &Request| last != path) {
            seen.push(next(&self.checks));
        }
        seen
    }
}

fn next(requests: &Receiver<Request>) -> Request {
    requests.recv_timeout(DEADLINE).expect("a request comes")
}

/// Answers the requests of one connection.
fn serve(connection: TcpStream, answers: &AtomicU16, hook: &Sender<Request>, check: &Sender<Request>) {
    let mut reader = BufReader::new(connection);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        if reader.read_line(&mut line).unwrap_or_default() == 0 {
            return;
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).unwrap_or_default() <= 2 {
                break;
            }
            if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a number");
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("the body");
        let body = String::from_utf8(body).expect("text");
        let (requests, path, status) = match (path.strip_prefix(HOOK), path.strip_prefix(CHECK)) {
            (Some(rest), _) => (hook, rest, answers.load(Ordering::SeqCst)),
            (None, Some(rest)) => (check, rest, 200),
            (None, None) => panic!("{path} is nobody's"),
        };
        // The test may be over.
        let _ = requests.send((path.to_owned(), body));
        if status == SILENT {
            thread::sleep(DEADLINE);
        }
        let answer = format!("HTTP/1.1 {status} As told\r\nContent-Length: 0\r\n\r\n");
        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// The example, of which the job reads a file.
struct Story {
    server: Server,
    directory: TempDir,
    process: Process,
}

impl Story {
    fn start() -> Self {
        Self::start_in(TempDir::new().expect("a directory"))
    }

    fn start_in(directory: TempDir) -> Self {
        let server = Server::start();
        let address = format!("http://127.0.0.1:{}", server.port);
        let mut command: Command = example("notify");
        command.arg(directory.path().join("data"));
        command.env("WEBHOOK_URL", format!("{address}{HOOK}")).env("CHECK_URL", format!("{address}{CHECK}"));
        let log = File::create(directory.path().join("log")).expect("a file");
        let process = Process::start(command.stderr(Stdio::from(log)));
        Self { server, directory, process }
    }

    fn data(&self) -> std::path::PathBuf {
        self.directory.path().join("data")
    }

    fn mend(&self) {
        fs::write(self.data(), "data").expect("it is written");
    }

    fn spoil(&self) {
        fs::remove_file(self.data()).expect("it is there");
    }

    /// Ends it, and sees that it printed no secret.
    fn end(mut self) {
        self.process.signal(Signal::INT);
        let (code, _) = self.process.end();
        assert_eq!(code, Some(0), "{:?}", self.process.seen);
        let log: &Path = &self.directory.path().join("log");
        let said = self.process.seen.join("\n") + &fs::read_to_string(log).expect("a log");
        assert!(!said.contains("SECRET"), "{said}");
    }
}

#[test]
fn a_streak_of_failures_is_one_message_and_its_end_another_one() {
    let story = Story::start();

    let message = story.server.next_hook();
    assert!(message.starts_with("{\"text\":\"backup failed: No such file or directory"), "{message}");
    for _ in 0..3 {
        story.server.checks_until("/fail");
    }
    story.mend();
    assert_eq!(story.server.next_hook(), "{\"text\":\"backup is well again\"}", "the second message");
    story.server.checks_until("");
    story.server.checks_until("");
    story.spoil();
    assert!(story.server.next_hook().contains("backup failed"), "the third message");
    story.end();
}

#[test]
fn each_run_checks_in_at_its_start_and_at_its_end_with_its_error() {
    let story = Story::start();

    let failed = story.server.checks_until("/fail");
    assert_eq!(failed[0], ("/start".to_owned(), String::new()));
    let [.., (_, error)] = &failed[..] else { panic!("{failed:?}") };
    assert!(error.starts_with("No such file or directory"), "{error}");

    story.mend();
    let paths: Vec<_> = story.server.checks_until("").into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths[paths.len() - 2..], ["/start", ""], "{paths:?}");
    story.end();
}

#[test]
fn a_webhook_that_fails_is_tried_again() {
    let mut story = Story::start();
    story.server.answer(503);
    let messages = [(); 3].map(|()| story.server.next_hook());
    story.process.wait_for("the webhook answers 503");
    story.server.answer(204);
    let delivered = story.server.next_hook();

    // The first may have come before it failed.
    assert!(messages[1..].iter().all(|message| *message == messages[2]), "{messages:?}");
    assert!(delivered.contains("backup failed") || delivered == messages[2], "{delivered}");
    story.end();
}

#[test]
fn a_webhook_that_does_not_answer_delays_no_run_and_no_check_in() {
    let story = Story::start();
    story.server.answer(SILENT);
    story.mend();
    // A message that hangs.
    story.server.checks_until("");
    story.spoil();
    story.server.checks_until("/fail");
    story.mend();
    let began = Instant::now();

    // Two runs a second go on.
    for _ in 0..6 {
        story.server.checks_until("");
    }

    assert!(began.elapsed() < DEADLINE / 2, "{:?}", began.elapsed());
    let few = story.server.hooks.try_iter().count();
    assert!(few <= 4, "one message after the other: {few}");
    story.end();
}

#[test]
fn a_job_that_succeeds_no_more_is_overdue_but_says_no_more_than_that_it_failed() {
    let story = Story::start();
    assert!(story.server.next_hook().contains("backup failed"));

    // Three seconds and more, in which it becomes overdue.
    for _ in 0..8 {
        story.server.checks_until("/fail");
    }

    let more = story.server.hooks.recv_timeout(Duration::from_millis(500));
    assert_eq!(more, Err(RecvTimeoutError::Timeout), "one message a streak");
    story.end();
}

#[test]
fn a_job_that_hangs_is_overdue_and_well_again_once_it_succeeds() {
    let directory = TempDir::new().expect("a directory");
    // Whoever reads it waits for somebody who writes.
    let pipe = directory.path().join("data");
    let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there");
    assert!(made.success());
    let story = Story::start_in(directory);

    let message = story.server.next_hook();
    assert!(message.starts_with("{\"text\":\"backup is overdue: success, since "), "{message}");

    fs::write(&pipe, "data").expect("it is written");
    assert_eq!(story.server.next_hook(), "{\"text\":\"backup is well again\"}");
    fs::remove_file(&pipe).expect("it is there");
    // The run that reads it by now.
    thread::spawn(move || fs::write(&pipe, "data"));
    story.end();
}
