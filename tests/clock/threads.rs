//! A clock that is set while the engine runs on threads of its own.

use super::*;

/// The clock of a machine that somebody sets.
#[derive(Debug, Clone, Default)]
struct Settable {
    ahead_millis: Arc<AtomicI64>,
    right: SystemClock,
}

impl Settable {
    fn set(&self, at: DateTime<Utc>) {
        self.ahead_millis.store((at - self.right.now()).num_milliseconds(), Ordering::Relaxed);
    }
}

impl Clock for Settable {
    fn now(&self) -> DateTime<Utc> {
        self.right.now() + TimeDelta::milliseconds(self.ahead_millis.load(Ordering::Relaxed))
    }

    fn elapsed(&self) -> Duration {
        self.right.elapsed()
    }
}

/// Passes the events of a node on.
struct Told(mpsc::UnboundedSender<EventKind>);

impl Actor for Told {
    type Context = Context<Self>;
}

impl Handler<Event> for Told {
    type Result = ();

    fn handle(&mut self, event: Event, _: &mut Self::Context) {
        // The test is over.
        let _ = self.0.send(event.kind);
    }
}

/// A clock that stands so, and the times of its day: nothing is due whenever the test runs.
fn half_past_ten() -> (Settable, impl Fn(u32, u32) -> DateTime<Utc>) {
    let clock = Settable::default();
    let today = Utc::now().date_naive();
    let at = move |hour, minute| today.and_hms_opt(hour, minute, 0).expect("a time").and_utc();
    clock.set(at(10, 30));
    (clock, at)
}

/// In real time: the engine looks at its clocks by itself, on threads of its own.
#[actix_rt::test]
async fn on_the_embedded_backend_a_step_is_noticed_at_once_by_every_job() {
    let (clock, at) = half_past_ten();
    let (sender, mut events) = mpsc::unbounded_channel();
    let jobs = Callsheet::builder()
        .clock(clock.clone())
        .jobs(led_and_local(hours(1)))
        .listen(Told(sender).start())
        .start()
        .await
        .expect("it starts");
    // The ticks of a job count from its enrolment on, of which no event tells.
    let enrolled = async {
        let state = async || jobs.details("led").await.expect("it is there").state;
        while state().await != JobState::Scheduled {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(secs(60), enrolled).await.expect("it leads");

    for hour in [11, 12] {
        clock.set(at(hour, 0));
        let told = async {
            let (mut steps, mut ran, mut ended) = (Vec::new(), Vec::new(), 0);
            while ended < 2 {
                match events.recv().await.expect("the node runs") {
                    EventKind::ClockStepped { by } => steps.push(by),
                    EventKind::RunStarted { job, fire_time, .. } => ran.push((job, fire_time)),
                    EventKind::RunSucceeded { .. } => ended += 1,
                    _ => {}
                }
            }
            (steps, ran)
        };
        let (steps, mut ran) = tokio::time::timeout(secs(60), told).await.expect("it happens");
        ran.sort();
        let ran: Vec<_> =
            ran.iter().map(|(job, at)| (job.as_str(), at.map(|at| at.instant().hour()))).collect();
        assert_eq!(ran, [("led", Some(hour)), ("local", Some(hour))]);
        assert!(matches!(steps[..], [by] if by > TimeDelta::minutes(25)), "{steps:?}");
    }

    // Back to half past ten: what ran does not run again, and the engine says that it noticed.
    clock.set(at(10, 30));
    let back = async {
        loop {
            match events.recv().await.expect("the node runs") {
                EventKind::ClockStepped { by } => return by,
                EventKind::RunStarted { job, fire_time, .. } => panic!("{job} ran {fire_time:?} again"),
                _ => {}
            }
        }
    };
    let by = tokio::time::timeout(secs(60), back).await.expect("it happens");
    assert!(by < TimeDelta::minutes(-85), "{by}");
    jobs.shutdown(Duration::ZERO).await;
}

/// On every full hour; whoever asks on a thread of the jobs must wait, the first time.
#[derive(Debug)]
struct Slow {
    /// That of the supervisor, which asks first of all.
    checked_on: OnceLock<ThreadId>,
    asked: mpsc::UnboundedSender<()>,
    go_on: Mutex<Option<Receiver<()>>>,
}

impl Slow {
    fn wait(&self) {
        let current = thread::current().id();
        if *self.checked_on.get_or_init(|| current) == current {
            return;
        }
        let first = self.go_on.lock().expect("nobody panics").take();
        if let Some(go_on) = first {
            self.asked.send(()).expect("the test waits for it");
            go_on.recv_timeout(secs(60)).expect("the test goes on");
        }
    }
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("every full hour")
    }
}

impl Schedule for Slow {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.wait();
        after.duration_trunc(TimeDelta::hours(1)).ok().map(|hour| hour + TimeDelta::hours(1))
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let before = before - TimeDelta::milliseconds(1);
        before.duration_trunc(TimeDelta::hours(1)).ok()
    }
}

/// In real time: the supervisor looks for wrong timers while the job has read its clock and not armed its
/// timer yet.
#[actix_rt::test]
async fn a_timer_that_is_armed_just_when_the_clock_is_set_is_right() {
    let (clock, at) = half_past_ten();
    let (sender, mut events) = mpsc::unbounded_channel();
    let jobs = Callsheet::builder()
        .clock(clock.clone())
        .job(Job::new("j", every(hours(100))).fires(Fires::Local).run(async |_| {}))
        .listen(Told(sender).start())
        .start()
        .await
        .expect("it starts");

    let (asked, mut is_asked) = mpsc::unbounded_channel();
    let (go_on, waits) = std::sync::mpsc::channel();
    let slow = Slow { checked_on: OnceLock::new(), asked, go_on: Mutex::new(Some(waits)) };
    let changed = Job::new("j", slow).fires(Fires::Local).run(async |_| {});
    jobs.update(changed).await.expect("it is there");
    tokio::time::timeout(secs(60), is_asked.recv()).await.expect("the job asks").expect("it is there");
    clock.set(at(11, 0));
    let happened = async |events: &mut mpsc::UnboundedReceiver<EventKind>, what: fn(&EventKind) -> bool| {
        let happens = async { while !what(&events.recv().await.expect("the node runs")) {} };
        tokio::time::timeout(secs(60), happens).await.expect("it happens");
    };
    happened(&mut events, stepped).await;
    // It answers when it has looked at all timers.
    jobs.details("nobody").await.expect_err("there is none");
    go_on.send(()).expect("the job waits");

    happened(&mut events, |kind| matches!(kind, EventKind::RunStarted { .. })).await;
    jobs.shutdown(Duration::ZERO).await;
}

/// A clock that is set forth and back whenever somebody is about to look at it, and wants to be looked at again.
#[derive(Debug)]
struct Flaps {
    looks: AtomicI64,
    looked: mpsc::UnboundedSender<Instant>,
    right: SystemClock,
}

impl Clock for Flaps {
    fn now(&self) -> DateTime<Utc> {
        self.right.now() + TimeDelta::minutes(self.looks.load(Ordering::Relaxed) % 2)
    }

    fn elapsed(&self) -> Duration {
        self.right.elapsed()
    }

    fn next_look(&self) -> BoxFuture<'static, ()> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        // The test is over.
        let _ = self.looked.send(Instant::now());
        ready(()).boxed()
    }
}

#[actix_rt::test]
async fn a_clock_that_never_rests_is_looked_at_with_pauses() {
    let (looked, mut looks) = mpsc::unbounded_channel();
    let clock = Flaps { looks: AtomicI64::new(0), looked, right: SystemClock::default() };
    let jobs = Callsheet::builder().clock(clock).start().await.expect("it starts");
    let first = looks.recv().await.expect("it looks");

    // What notices a move looks, and so does what tells of it, without a pause between them.
    let mut last = first;
    for _ in 0..2 * 20 {
        last = looks.recv().await.expect("it looks");
    }

    assert!(last - first >= 19 * ms(10), "20 times within {:?}", last - first);
    jobs.shutdown_now().await;
}
