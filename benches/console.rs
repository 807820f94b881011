//! What open pages cost: streams of the console beside a node that fires all the time.
//!
//! ```sh
//! ulimit -n 4096
//! cargo bench --bench console --features console                # 1,000 streams, 500 jobs, 20 s
//! cargo bench --bench console --features console -- 100 50 5    # so many streams, so many jobs, so many seconds
//! ```
//!
//! Each job runs ten times a second, and each run is two events: 500 jobs are 10,000 events a second. The streams are
//! read by a process of their own. One row is without them, one is with one of them, one with all.

// A benchmark talks to a terminal.
#![allow(clippy::print_stdout)]

use std::{
    env,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use actix_web::{App, HttpServer, rt};
use anyhow::Context;
use callsheet::{Callsheet, Job, Run, console::Console, schedule::every};
use chrono::{TimeDelta, Utc};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

mod instruments;

use instruments::{Lateness, TickCounter, late_micros, processor_time};

const PERIOD: Duration = Duration::from_millis(100);
/// Until the pages are read and the jobs are at work.
const WARM_UP: Duration = Duration::from_secs(3);
const VIEWS: [&str; 3] = ["jobs", "runs", "overview"];

static LATENESS: OnceLock<Lateness> = OnceLock::new();

fn main() -> anyhow::Result<()> {
    let given: Vec<_> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let given: Vec<_> = given.iter().map(String::as_str).collect();
    match given.as_slice() {
        ["--serve", streams, jobs, seconds] => {
            rt::System::new().block_on(serve(streams.parse()?, jobs.parse()?, seconds.parse()?))
        }
        ["--read", address, streams] => rt::System::new().block_on(read(address, streams.parse()?)),
        [] => all("1000", "500", "20"),
        [streams, jobs, seconds] => all(streams, jobs, seconds),
        _ => anyhow::bail!("nothing, or how many streams, jobs and seconds"),
    }
}

/// Each row in a process of its own.
fn all(streams: &str, jobs: &str, seconds: &str) -> anyhow::Result<()> {
    println!(
        "| streams | events/s | diffs/s: jobs | runs | overview | KB/s a stream | MB/s all | streams lost \
              | processor | late p50 | p99 | max |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for streams in ["0", "1", streams] {
        let row = Command::new(env::current_exe()?).args(["--serve", streams, jobs, seconds]).status()?;
        anyhow::ensure!(row.success(), "the row of {streams} streams: {row}");
    }
    Ok(())
}

async fn body(run: Run) {
    if let (Some(lateness), Some(fire_time)) = (LATENESS.get(), run.fire_time()) {
        lateness.note(fire_time, late_micros(fire_time));
    }
}

async fn serve(streams: usize, jobs: u32, seconds: u32) -> anyhow::Result<()> {
    metrics::set_global_recorder(TickCounter).map_err(|_| anyhow::anyhow!("there is a recorder already"))?;
    let start = Utc::now() + TimeDelta::seconds(1);
    let job = |nth| {
        let schedule = every(PERIOD).starting_at(start + PERIOD * nth / jobs);
        Job::new(format!("job-{nth:05}"), schedule).run(body)
    };
    let node = Callsheet::builder().jobs((0..jobs).map(job)).start().await?;
    let console = Console::new(node.clone()).anyone_may_read();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let app = move || App::new().service(console.scope("/console"));
    rt::spawn(HttpServer::new(app).workers(1).disable_signals().listen(listener)?.run());
    let mut reader = if streams > 0 { Some(Reader::start(&address, streams).await?) } else { None };
    sleep(WARM_UP).await;

    let from = Utc::now();
    let window = Duration::from_secs(seconds.into());
    let _ = LATENESS.set(Lateness::new(from, from + window));
    let (ticks, processor) = (TickCounter::read(), processor_time()?);
    let before = reader.as_mut().map(Reader::counts).transpose()?.unwrap_or_default();
    sleep(window).await;
    let after = reader.as_mut().map(Reader::counts).transpose()?.unwrap_or_default();
    let (ticks, processor) = (TickCounter::read().since(ticks), processor_time()? - processor);

    let second = f64::from(seconds);
    let of = |place: usize| after[place].saturating_sub(before[place]) as f64 / second;
    let late = LATENESS.get().map(Lateness::all).context("it was set")?;
    let millis = |quantile| late.value_at_quantile(quantile) as f64 / 1_000.0;
    println!(
        "| {streams} | {:.0} | {:.2} | {:.2} | {:.2} | {:.1} | {:.2} | {} | {:.0} % | {:.1} ms | {:.1} ms | {:.1} ms |",
        2.0 * ticks.started as f64 / second,
        of(0),
        of(1),
        of(2),
        of(3) / 1_024.0 / streams.max(1) as f64,
        of(3) / 1_024.0 / 1_024.0,
        after[4],
        100.0 * processor.as_secs_f64() / second,
        millis(0.5),
        millis(0.99),
        late.max() as f64 / 1_000.0,
    );
    node.shutdown(Duration::from_secs(10)).await;
    Ok(())
}

/// The process that reads the streams.
struct Reader {
    child: Child,
    asked: ChildStdin,
    told: BufReader<ChildStdout>,
}

/// Diffs of each view of the first stream, bytes of all, and how many have ended.
type Counts = [u64; 5];

impl Reader {
    async fn start(address: &str, streams: usize) -> anyhow::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["--read", address, &streams.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let asked = child.stdin.take().context("a pipe")?;
        let told = BufReader::new(child.stdout.take().context("a pipe")?);
        let mut reader = Self { child, asked, told };
        // It connects to this thread, among others: nobody waits for it here.
        reader = actix_web::web::block(move || reader.counts().map(|_| reader)).await??;
        Ok(reader)
    }

    fn counts(&mut self) -> anyhow::Result<Counts> {
        self.asked.write_all(b"?\n")?;
        let mut line = String::new();
        self.told.read_line(&mut line)?;
        let numbers = line.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        numbers.try_into().map_err(|_| anyhow::anyhow!("{line:?} is not what it tells"))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads streams until nobody asks any more how much was read.
async fn read(address: &str, streams: usize) -> anyhow::Result<()> {
    let counts: Arc<[AtomicU64; 5]> = Arc::default();
    for nth in 0..streams {
        let mut stream = TcpStream::connect(address).await?;
        let asked = format!("GET /console/api/events HTTP/1.1\r\nHost: {address}\r\n\r\n");
        stream.write_all(asked.as_bytes()).await?;
        rt::spawn(drain(stream, nth == 0, counts.clone()));
    }
    let answered = actix_web::web::block(move || {
        for _ in std::io::stdin().lock().lines().map_while(Result::ok) {
            let told: Vec<_> = counts.iter().map(|count| count.load(Relaxed).to_string()).collect();
            println!("{}", told.join(" "));
        }
    });
    Ok(answered.await?)
}

/// Counts what one stream says: by its bytes, and the first one by its events too.
async fn drain(stream: TcpStream, is_first: bool, counts: Arc<[AtomicU64; 5]>) {
    let mut stream = tokio::io::BufReader::new(stream);
    let (mut line, mut bytes) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let read = if is_first {
            line.clear();
            let read = stream.read_until(b'\n', &mut line).await;
            let event = line.strip_prefix(b"event: ").map(<[u8]>::trim_ascii);
            if let Some(place) = VIEWS.iter().position(|view| event == Some(view.as_bytes())) {
                counts[place].fetch_add(1, Relaxed);
            }
            read
        } else {
            stream.read(&mut bytes).await
        };
        match read {
            Ok(read @ 1..) => counts[3].fetch_add(read as u64, Relaxed),
            Ok(0) | Err(_) => {
                counts[4].fetch_add(1, Relaxed);
                return;
            }
        };
    }
}
