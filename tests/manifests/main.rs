//! The manifests of `examples/ops/kubernetes`: they are those of the published schemas, their numbers are those of the
//! guide to deploying, and the example `quickstart` does what they ask of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;

#[path = "../common/example.rs"]
mod example;
#[path = "../common/postgres.rs"]
mod harness;
#[path = "../process/mod.rs"]
mod process;

use example::example;
use process::{DEADLINE, Process};

const GUIDE: &str = include_str!("../../src/guide/deploying.md");
const QUICKSTART: &str = include_str!("../../examples/quickstart.rs");
/// The first version that lets a pod sleep before it stops without being told to, and the newest one.
const VERSIONS: [&str; 2] = ["1.30", "1.37"];

fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/ops/kubernetes"))
}

/// The manifests by their kinds.
fn manifests() -> BTreeMap<String, Value> {
    let files = fs::read_dir(directory()).expect("a directory").map(|file| file.expect("an entry").path());
    let read = files.map(|path| {
        let text = fs::read_to_string(&path).expect("a text");
        let manifest: Value =
            serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        (manifest["kind"].as_str().expect("a kind").to_owned(), manifest)
    });
    read.collect()
}

fn deployment() -> Value {
    manifests().remove("Deployment").expect("there is one")
}

fn pod(deployment: &Value) -> &Value {
    &deployment["spec"]["template"]["spec"]
}

fn container(deployment: &Value) -> &Value {
    &pod(deployment)["containers"][0]
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn seconds(value: &Value) -> Duration {
    Duration::from_secs(number(value))
}

/// Validates a manifest by the schemas of a version.
fn validated(manifest: &Path, version: &str) -> (bool, String) {
    let tool =
        concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/kubernetes-validate/bin/kubernetes-validate");
    let output = Command::new(tool).args(["--strict", "-k", version]).arg(manifest).output();
    let output = output.unwrap_or_else(|error| {
        panic!(
            "kubernetes-validate does not run ({error}): tests/run installs it, by\n\
             python3 -m venv target/tools/kubernetes-validate\n\
             target/tools/kubernetes-validate/bin/pip install --require-hashes -r tests/manifests/requirements.txt"
        )
    });
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    (output.status.success(), said)
}

#[test]
fn the_published_schemas_take_every_manifest() {
    let files = fs::read_dir(directory()).expect("a directory").map(|file| file.expect("an entry").path());
    let files: Vec<PathBuf> = files.collect();
    assert_eq!(files.len(), 4, "{files:?}");

    for (file, version) in files.iter().flat_map(|file| VERSIONS.map(|version| (file, version))) {
        let (is_valid, said) = validated(file, version);
        assert!(is_valid && said.contains(&format!("against version {version}")), "{said}");
    }
}

#[test]
fn the_published_schemas_refuse_an_unknown_field_and_a_wrong_type() {
    let text = fs::read_to_string(directory().join("deployment.yaml")).expect("it is there");
    let dir = tempfile::tempdir().expect("there is room");
    for (right, wrong) in [("periodSeconds: 10", "periodSecond: 10"), ("replicas: 2", "replicas: two")] {
        assert!(text.contains(right));
        let file = dir.path().join("wrong.yaml");
        fs::write(&file, text.replace(right, wrong)).expect("there is room");

        let (is_valid, said) = validated(&file, VERSIONS[1]);
        assert!(!is_valid, "{wrong}: {said}");
    }
}

#[test]
fn the_manifests_name_each_other_rightly() {
    let manifests = manifests();
    let deployment = deployment();
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    for selector in [
        &deployment["spec"]["selector"]["matchLabels"],
        &pod(&deployment)["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
        &manifests["Service"]["spec"]["selector"],
        &manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ] {
        assert_eq!(selector, labels);
    }

    let port = &container(&deployment)["ports"][0];
    assert_eq!(manifests["Service"]["spec"]["ports"][0]["targetPort"], port["name"]);
    for probe in ["livenessProbe", "readinessProbe"] {
        assert_eq!(container(&deployment)[probe]["httpGet"]["port"], port["name"]);
    }
    let bind = format!("0.0.0.0:{}", port["containerPort"]);
    assert_eq!(environment(&deployment)["CALLSHEET_BIND"]["value"], bind);

    let secret = &environment(&deployment)["CALLSHEET_DATABASE_URL"]["valueFrom"]["secretKeyRef"];
    assert_eq!(secret["name"], manifests["Secret"]["metadata"]["name"]);
    let key = secret["key"].as_str().expect("a key");
    assert!(
        manifests["Secret"]["stringData"][key].as_str().is_some_and(|url| url.starts_with("postgres://"))
    );
}

/// The variables of the container, by their names.
fn environment(deployment: &Value) -> BTreeMap<String, Value> {
    let variables = container(deployment)["env"].as_array().expect("variables");
    let named = variables
        .iter()
        .map(|variable| (variable["name"].as_str().expect("a name").to_owned(), variable.clone()));
    named.collect()
}

/// From the sleep before SIGTERM on, and from SIGTERM on.
fn grace(deployment: &Value) -> (Duration, Duration) {
    let grace = seconds(&pod(deployment)["terminationGracePeriodSeconds"]);
    let sleep = seconds(&container(deployment)["lifecycle"]["preStop"]["sleep"]["seconds"]);
    (grace, grace - sleep)
}

#[test]
fn the_grace_period_holds_the_sleep_and_the_whole_shutdown_budget() {
    let (_, budget) = QUICKSTART.split_once("ShutdownBudget::within(Duration::from_secs(").expect("a budget");
    let budget: u64 = budget.split_once(')').expect("it ends").0.parse().expect("a number");

    let (_, after_signal) = grace(&deployment());
    assert!(after_signal >= Duration::from_secs(budget + 2), "{after_signal:?} for {budget} s");
}

#[test]
fn a_node_that_waits_for_its_database_is_not_killed_by_the_probe() {
    let deployment = deployment();
    let probe = &container(&deployment)["livenessProbe"];
    let kills = seconds(&probe["periodSeconds"]) * (number(&probe["failureThreshold"]) - 1) as u32;

    assert!(kills > callsheet::CONNECT_TIMEOUT_DEFAULT, "{kills:?}");
}

#[test]
fn another_node_is_there_during_a_deployment_and_a_drain() {
    let (manifests, deployment) = (manifests(), deployment());
    let replicas = number(&deployment["spec"]["replicas"]);
    let update = &deployment["spec"]["strategy"]["rollingUpdate"];

    assert!(replicas >= 2 && number(&update["maxUnavailable"]) == 0 && number(&update["maxSurge"]) >= 1);
    assert!(number(&manifests["PodDisruptionBudget"]["spec"]["maxUnavailable"]) < replicas);
}

/// The numbers below a value: the name of each, and the number.
fn numbers(value: &Value, name: &str, found: &mut BTreeSet<(String, String)>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| numbers(value, name, found)),
        Value::Array(values) => values.iter().for_each(|value| numbers(value, name, found)),
        Value::Number(number) => {
            found.insert((name.to_owned(), number.to_string()));
        }
        Value::String(quantity) if ["cpu", "memory"].contains(&name) => {
            found.insert((name.to_owned(), quantity.clone()));
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[test]
fn the_guide_tells_why_each_number_is_what_it_is() {
    let table = GUIDE.split_once("| number | is | why |\n").expect("a table").1;
    let rows: Vec<Vec<_>> = table
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let mut used = BTreeSet::new();
    let mut found = BTreeSet::new();
    manifests().values().for_each(|manifest| numbers(manifest, "", &mut found));
    assert!(found.len() > 12, "{found:?}");

    for (name, number) in found {
        let row = rows.iter().position(|row| {
            let is_it = row[0].starts_with(&format!("`{name}`"));
            is_it && row[1].split([' ', ',']).any(|word| word == number) && row[2].len() > 10
        });
        used.insert(row.unwrap_or_else(|| panic!("the guide does not tell why {name} is {number}")));
    }
    let unused: Vec<_> = rows.iter().enumerate().filter(|(nth, _)| !used.contains(nth)).collect();
    assert!(unused.is_empty(), "{unused:?}");
}

#[test]
fn the_quickstart_takes_the_environment_answers_the_probes_and_stops_in_time() {
    let deployment = deployment();
    let mut command = example("quickstart");
    for (name, variable) in environment(&deployment) {
        let value = match &*name {
            "CALLSHEET_BIND" => "127.0.0.1:0".to_owned(),
            "CALLSHEET_DATABASE_URL" => harness::server().url(),
            "CALLSHEET_NODE_NAME" => "billing-6d5f9c7b8d-x2x7k".to_owned(),
            _ => variable["value"].as_str().expect("a value").to_owned(),
        };
        command.env(name, value);
    }
    let mut process = Process::start(&mut command);
    let address = process.wait_for("listening on ").rsplit(' ').next().expect("an address").to_owned();
    let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
    let agent: ureq::Agent = config.timeout_global(Some(DEADLINE)).build().into();
    let get = |path: &str| {
        let mut answer = agent.get(format!("{address}{path}")).call().expect("an answer");
        (answer.status().as_u16(), answer.body_mut().read_to_string().expect("a text"))
    };

    for probe in ["livenessProbe", "readinessProbe"] {
        let probe = &container(&deployment)[probe];
        let (path, asked) = (probe["httpGet"]["path"].as_str().expect("a path"), Instant::now());
        assert_eq!(get(path), (200, "ok\n".to_owned()), "{path}");
        assert!(asked.elapsed() < seconds(&probe["timeoutSeconds"]), "{path}");
    }
    let (_, health) = get("/health");
    assert!(health.contains("billing-6d5f9c7b8d-x2x7k"), "{health}");
    let (_, metrics) = get("/metrics");
    assert!(metrics.contains("callsheet_leader{scope=\"billing\"}"), "{metrics}");

    let told = Instant::now();
    process.signal(Signal::TERM);
    let (code, last) = process.end_within(grace(&deployment).1);
    assert_eq!(code, Some(0), "{last:?} after {:?}", told.elapsed());
}
