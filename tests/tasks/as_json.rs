//! Arguments are the JSON that was given: what cannot be kept as it is, is refused.

use callsheet::{ARGUMENTS_DEPTH_MAX, JobStatus};

use super::*;

/// So many arrays, one in the other.
fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!([inner]))
}

fn config(json: &Value) -> Result<JobConfig, String> {
    let text = json!({"schedule": "@daily", "task": {"name": "any", "arguments": json}}).to_string();
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

/// Takes whatever it is given, `null` as well.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Any(Value);

impl Task for Any {
    const NAME: &'static str = "any";
    type State = Done;

    async fn run(self, _: Run, done: Done) -> RunResult {
        done.note(self.0.to_string());
        Ok(())
    }
}

#[tokio::test]
async fn arguments_of_the_greatest_depth_are_run_and_shown_as_they_are() {
    let deepest = nested(ARGUMENTS_DEPTH_MAX);
    let done = Done::default();
    let job = Job::new("deep", every(hours(1))).run_task(Any(deepest.clone()));
    let jobs = node_with([job]).task::<Any>(done.clone()).start().await.expect("it is right");

    jobs.trigger("deep").await.expect("it starts").finished().await;

    assert_eq!(done.take(), [deepest.to_string()]);
    let status = jobs.details("deep").await.expect("it is there");
    let text = serde_json::to_string(&[&status]).expect("it is data");
    let read: [JobStatus; 1] = serde_json::from_str(&text).expect("it was written");
    assert_eq!(read, [status]);
    let config = config(&deepest).expect("it is right");
    let written = toml::to_string(&BTreeMap::from([("deep", &config)])).expect("it is data");
    let read: BTreeMap<String, JobConfig> = toml::from_str(&written).expect("it was written");
    assert_eq!(read["deep"].task, config.task);
    jobs.shutdown(secs(5)).await;
}

#[test]
fn arguments_that_are_too_deep_are_refused() {
    let rule = "the arguments of a task nest at most 64 arrays and objects, these nest more; flatten them, or store \
                what is deep elsewhere, and pass its name";
    for levels in [ARGUMENTS_DEPTH_MAX + 1, 100, 130, 1_000] {
        let deep = json!({"list": nested(levels - 1)});

        let told = Job::new("deep", every(hours(1))).run_task(Any(deep)).check();

        let told = told.expect_err("it is too deep").to_string();
        assert!(
            told.starts_with("job \"deep\": arguments \"{\\\"list\\\":[[[") && told.ends_with(rule),
            "{told}"
        );
        assert!(told.len() < 2_000, "{told}");
    }
    let told = config(&nested(ARGUMENTS_DEPTH_MAX + 1)).expect_err("it is too deep");
    assert!(told.contains("task.arguments: ") && told.contains(rule), "{told}");
}

#[test]
fn dates_of_toml_are_their_texts() {
    for date in ["2026-01-01T00:00:00Z", "2026-01-01T09:30:00.5", "2026-01-01", "09:30:00"] {
        let file =
            format!("task = {{ name = 'any', arguments = {{ at = {date}, all = [{{ at = {date} }}] }} }}");
        let expected = format!(r#"{{"all":[{{"at":"{date}"}}],"at":"{date}"}}"#);

        let read: JobConfig = toml::from_str(&file).expect("it is right");
        let table: toml::Value = toml::from_str(&file).expect("it is right");
        let given = Arguments::of(&table["task"]["arguments"]).expect("it is right");

        let read = read.task.expect("it names one").arguments;
        assert_eq!((read.as_str(), given.as_str()), (&*expected, &*expected));
    }
    let other = json!({"$__toml_private_datetime": 1});
    assert_eq!(arguments(&other).to_value(), other, "it is no date");
}

/// What cannot be written is told by whoever writes it, and not left out.
#[test]
fn a_null_within_arguments_is_refused_by_toml() {
    let config = config(&json!({"to": null})).expect("it is right");

    assert_eq!(
        toml::to_string(&config).map_err(|error| error.to_string()),
        Err("unsupported unit type".to_owned())
    );
}
