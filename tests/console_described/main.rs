//! The API of the console answers as its description says, whatever is sent to it: asked by schemathesis.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use actix_web::{App, HttpServer, rt};
use callsheet::{
    Callsheet, Job, Run,
    console::{Access, Console},
    schedule::every,
};

/// How many requests are made up for each route, at most.
const EXAMPLES: &str = "10";
/// For how long, in seconds, at most.
const TIME_MAX: &str = "60";
/// The same requests each time.
const SEED: &str = "7";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where `tests/run` installs it.
fn program() -> PathBuf {
    let program = root().join("target/tools/schemathesis/bin/schemathesis");
    assert!(
        program.is_file(),
        "schemathesis is missing: python3 -m venv target/tools/schemathesis && \
         target/tools/schemathesis/bin/pip install --require-hashes -r tests/console_described/requirements.txt"
    );
    program
}

async fn jobs() -> Callsheet {
    let quiet =
        |name: &str| Job::new(name, every(Duration::from_hours(1))).tag("nightly").run(async |_: Run| {});
    let moody = Job::new("moody", every(Duration::from_hours(1))).run(async |_: Run| Err::<(), _>("no disk"));
    let jobs =
        Callsheet::builder().jobs([quiet("0"), quiet("report"), moody]).start().await.expect("they are good");
    for job in ["report", "moody"] {
        jobs.trigger(job).await.expect("it runs").finished().await;
    }
    jobs
}

fn ask(program: &Path, url: &str) -> Output {
    let mut asked = Command::new(program);
    asked.current_dir(std::env::temp_dir()).args(["run", &format!("{url}/api/openapi.json"), "--url", url]);
    asked.args(["--max-examples", EXAMPLES, "--max-time", TIME_MAX, "--seed", SEED, "--no-color"]);
    asked.args(["--phases", "examples,coverage,fuzzing", "--request-timeout", "10", "--workers", "1"]);
    asked.args([
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]);
    // It has no end.
    asked.args(["--exclude-path", "/api/events"]);
    asked.output().expect("it runs")
}

#[actix_web::test]
async fn each_route_answers_as_described_whatever_is_sent_to_it() {
    let (program, jobs) = (program(), jobs().await);
    let everybody = async |_| Access::Edit("schemathesis".to_owned());
    let console = Console::new(jobs.clone()).authorise(everybody);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let app = move || App::new().service(console.scope("/"));
    let server =
        HttpServer::new(app).workers(1).disable_signals().listen(listener).expect("it listens").run();
    let handle = server.handle();
    rt::spawn(server);

    let asked = rt::task::spawn_blocking(move || ask(&program, &url)).await.expect("it comes to an end");

    let said = String::from_utf8_lossy(&asked.stdout);
    assert!(asked.status.success(), "{said}\n{}", String::from_utf8_lossy(&asked.stderr));
    assert!(said.contains("26 selected / 27 total"), "all but the stream: {said}");
    handle.stop(false).await;
    jobs.shutdown(Duration::from_secs(5)).await;
}
