//! What settings say, what is wrong with them, and what is not shown.

use std::{collections::HashMap, fs};

use callsheet_actors::Fault;
use serde_json::json;

use super::{backends::choices, *};

/// It is in no error, and in nothing that is printed. Shorter than what a console takes.
const PASSWORD: &str = "s3cret-0f-us";

/// What these variables say.
fn read(variables: &[(&str, &str)]) -> Result<(Settings, Builder), Faults> {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    let lookup = |name: &str| Some(OsString::from(variables.get(name.strip_prefix("CALLSHEET_")?)?));
    Settings::assembled(&lookup, Scope::Needed)
}

fn faults(variables: &[(&str, &str)]) -> Vec<Fault> {
    read(variables).err().map(Faults::into_vec).unwrap_or_default()
}

/// The names of the variables that are wrong.
fn wrong(variables: &[(&str, &str)]) -> Vec<String> {
    faults(variables).into_iter().map(|fault| fault.subject.replace("CALLSHEET_", "")).collect()
}

#[test]
fn without_variables_a_node_is_alone_in_memory_and_nothing_is_wrong() {
    let (settings, builder) = read(&[]).expect("nothing is wrong");

    assert_eq!(settings, Settings::default());
    assert!(builder.backend.is_none() && builder.options.warning.is_none());
    assert_eq!(&*builder.options.node_name, "");
    assert_eq!(read(&[("LEASE", ""), ("BACKEND", "")]).expect("as if they were not set").0, settings);
}

#[test]
fn every_fault_names_its_variable_and_all_are_told_at_once() {
    let all = [
        ("BACKEND", "rediss"),
        ("ELECTION", "no"),
        ("LEASE", "five"),
        ("REDIS_PORT", "70000"),
        ("THREADS_ARBITERS", "0"),
        ("THREADS_BODY_THREADS", "many"),
        ("LIMITS_WHEN_FULL", "drop"),
        ("LIMITS_CONNECT_TIMEOUT", "0s"),
        ("HISTORY_MEMORY_RUNS", "0"),
        ("HISTORY_RETENTION_RUNS_FOR", "1s"),
        ("NODE_NAME", "a\nb"),
    ];
    let told = wrong(&all);

    assert_eq!(told.len(), all.len(), "{told:?}");
    for (variable, _) in all {
        assert!(told.iter().any(|told| told == variable), "{variable}: {told:?}");
    }
    let error = read(&all).err().expect("faults");
    for shown in [error.to_string(), format!("{error:?}")] {
        assert!(shown.contains("and 1 more"), "{shown}");
    }
    let faults = faults(&[("BACKEND", "rediss"), ("DATABASE_PORT", "tcp://10.0.0.1:5432")]);
    assert!(
        faults.iter().any(|fault| fault.rule.contains("`local`, or one of postgres, redis")),
        "{faults:?}"
    );
    assert!(faults.iter().any(|fault| fault.cure.contains("enableServiceLinks")), "{faults:?}");
}

#[test]
fn a_text_that_is_none_is_told_and_not_shown() {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt;

        let lookup = |name: &str| (name == "CALLSHEET_SCOPE").then(|| OsString::from_vec(vec![b's', 0xff]));
        let told = Settings::read(lookup).expect_err("it is no text").to_string();
        assert!(told.starts_with("CALLSHEET_SCOPE \"(not shown)\": it is a text in UTF-8"), "{told}");
    }
}

#[test]
fn a_backend_is_refused_with_the_feature_that_brings_it() {
    for choice in choices().iter().filter(|choice| choice.make.is_none()) {
        let told = faults(&[("BACKEND", choice.name), ("SCOPE", "app")]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].to_string().starts_with("CALLSHEET_BACKEND"), "{told:?}");
        assert!(told[0].cure.ends_with(&format!("--features {}", choice.feature)), "{told:?}");
    }
    let others = [
        ("LOCAL_FILE", "callsheet.db", "sqlite", cfg!(feature = "sqlite")),
        ("CATALOGUE", "jobs.toml", "file-catalogue", cfg!(feature = "file-catalogue")),
        ("CONSOLE_SECRET", "0123456789abcdef", "console", cfg!(feature = "console")),
    ];
    for (variable, value, feature, _) in others.into_iter().filter(|(.., is_on)| !is_on) {
        let told = faults(&[(variable, value)]);
        assert_eq!(wrong(&[(variable, value)]), [variable]);
        assert!(told[0].rule.contains(&format!("without the feature `{feature}`")), "{told:?}");
    }
}

#[test]
fn without_election_a_node_shares_nothing_and_a_warning_says_so() {
    let (_, builder) =
        read(&[("ELECTION", "off"), ("BACKEND", "redis"), ("NODE_NAME", "web-1")]).expect("it is right");

    assert!(builder.backend.is_none());
    assert_eq!(&*builder.options.node_name, "web-1");
    let warning = builder.options.warning.expect("a warning");
    assert!(
        warning.contains("every tick") && warning.contains("CALLSHEET_BACKEND=redis is not used"),
        "{warning}"
    );
}

/// Where the server of a backend is, in parts.
fn parts(section: &str) -> Vec<(String, &'static str)> {
    let mut parts = vec![("HOST", "db.example"), ("PORT", "1234"), ("PASSWORD", PASSWORD)];
    if section != "consul" {
        parts.push(("USER", "me"));
    }
    match section {
        "database" | "postgres_lease" => parts.extend([("DATABASE", "app"), ("SCHEMA", "mine")]),
        "mysql" => parts.push(("DATABASE", "app")),
        "redis" => parts.push(("DATABASE", "3")),
        _ => {}
    }
    parts.into_iter().map(|(part, value)| (format!("{}_{part}", section.to_uppercase()), value)).collect()
}

/// The backends that are compiled and have one server.
fn with_server() -> Vec<(&'static str, &'static str)> {
    let compiled = choices().into_iter().filter(|choice| choice.make.is_some());
    compiled
        .map(|choice| (choice.name, choice.section))
        .filter(|(name, _)| !["redlock", "kubernetes"].contains(name))
        .collect()
}

#[test]
fn a_server_is_named_in_parts_and_each_backend_takes_them() {
    for (name, section) in with_server() {
        let parts = parts(section);
        let mut all = vec![("BACKEND", name), ("SCOPE", "app"), ("LEASE", "20s")];
        all.extend(parts.iter().map(|(part, value)| (part.as_str(), *value)));
        // Whether this machine trusts anybody is not what is asked.
        let tls = format!("{}_TLS", section.to_uppercase());
        all.push((&tls, "off"));

        let (settings, builder) = read(&all).unwrap_or_else(|faults| panic!("{name}: {faults}"));
        let backend = builder.backend.expect("a backend");
        assert_eq!((&*backend.scope(), backend.lease()), ("app", Duration::from_secs(20)), "{name}");
        assert!(!format!("{settings:?}{settings:#?}").contains(PASSWORD), "{name}");
    }
}

#[test]
fn what_a_backend_finds_wrong_is_told_by_the_variable_that_holds_it() {
    for (name, section) in with_server() {
        let [url, host, ca, schema] =
            ["URL", "HOST", "TLS_CA", "SCHEMA"].map(|part| format!("{}_{part}", section.to_uppercase()));
        let told = wrong(&[("BACKEND", name), ("SCOPE", "_reserved"), ("LEASE", "1ms"), (&url, "nothing")]);
        assert_eq!(told, ["SCOPE", "LEASE", url.as_str()], "{name}");
        assert_eq!(wrong(&[("BACKEND", name)]), ["SCOPE", &url], "{name}");
        let database = format!("{}_DATABASE", section.to_uppercase());
        let mut parts = vec![("BACKEND", name), ("SCOPE", "app"), (&*host, "db"), (&*ca, "/nowhere")];
        if section == "mysql" {
            parts.push((&database, "app"));
        }
        assert_eq!(wrong(&parts), [ca.as_str()], "{name}");
        parts.push((&schema, "No Schema"));
        assert!(wrong(&parts).contains(&schema), "{name}");
        // The application may have a scope of its own.
        let lookup = |asked: &str| match asked.strip_prefix("CALLSHEET_")? {
            "BACKEND" => Some(name.to_owned()),
            other => (other == url).then(|| "nothing".to_owned()),
        };
        let told = Settings::read(lookup).expect_err("the URL is none");
        assert_eq!(told.as_slice().len(), 1, "{name}: {told}");
    }
}

#[cfg(feature = "postgres")]
#[test]
fn a_database_and_nothing_else_is_enough() {
    for (variable, value) in [("DATABASE_URL", "postgres://localhost/app"), ("DATABASE_HOST", "localhost")] {
        let (_, builder) = read(&[(variable, value), ("SCOPE", "app")]).expect("it is right");
        assert_eq!(builder.backend.expect("a backend").name(), "postgres");
        assert_eq!(wrong(&[(variable, value)]), ["SCOPE"]);
    }
}

#[cfg(feature = "sqlite")]
#[test]
fn a_local_node_keeps_what_it_knows_in_the_file_that_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("callsheet.db");
    let (_, builder) = read(&[("LOCAL_FILE", file.to_str().expect("text"))]).expect("it is right");

    assert_eq!(builder.backend.expect("a file").name(), "sqlite");
    let nowhere = directory.path().join("nowhere/callsheet.db");
    assert_eq!(wrong(&[("LOCAL_FILE", nowhere.to_str().expect("text"))]), ["LOCAL_FILE"]);
}

#[test]
fn toml_json_and_the_environment_say_the_same() {
    let text = "
        backend = 'redis'
        election = false
        scope = 'app'
        lease = '10s'
        [redis]
        host = 'cache'
        port = 6380
        password = 's3cret'
        tls = true
        [redlock]
        urls = ['redis://a', 'redis://b']
        [limits]
        when_full = 'skip'
        max_concurrent_runs = 8
        [history.retention]
        runs_for = '7d'
    ";
    let of_toml: Settings = toml::from_str(text).expect("it is right");
    let of_json: Settings = serde_json::from_value(json!({
        "backend": "redis", "election": false, "scope": "app", "lease": "10s",
        "redis": {"host": "cache", "port": 6380, "password": "s3cret", "tls": true},
        "redlock": {"urls": ["redis://a", "redis://b"]},
        "limits": {"when_full": "skip", "max_concurrent_runs": 8},
        "history": {"retention": {"runs_for": "7d"}},
    }))
    .expect("it is right");
    let (of_environment, _) = read(&[
        ("BACKEND", "redis"),
        ("ELECTION", "off"),
        ("SCOPE", "app"),
        ("LEASE", "10s"),
        ("REDIS_HOST", "cache"),
        ("REDIS_PORT", "6380"),
        ("REDIS_PASSWORD", "s3cret"),
        ("REDIS_TLS", "on"),
        ("REDLOCK_URLS", "redis://a redis://b"),
        ("LIMITS_WHEN_FULL", "skip"),
        ("LIMITS_MAX_CONCURRENT_RUNS", "8"),
        ("HISTORY_RETENTION_RUNS_FOR", "7d"),
    ])
    .expect("it is right");

    assert_eq!(of_toml, of_json);
    assert_eq!(of_toml, of_environment);
    let unknown = toml::from_str::<Settings>("[redis]\nhots = 'cache'").expect_err("no such key");
    assert!(unknown.to_string().contains("unknown field `hots`"), "{unknown}");
    let duration = serde_json::from_value::<Settings>(json!({"lease": "5"})).expect_err("no unit");
    assert!(duration.to_string().starts_with("`5` has no unit; write whole numbers"), "{duration}");
}

#[test]
fn a_file_of_a_secret_is_small_regular_and_text() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let write = |name: &str, bytes: &[u8]| fs::write(path(name), bytes).expect("it is written");
    write("good", format!("{PASSWORD}\r\n").as_bytes());
    write("most", &[b'x'; SECRET_FILE_BYTES_MAX]);
    write("large", PASSWORD.repeat(6_000).as_bytes());
    write("empty", b"\n");
    write("binary", &[PASSWORD.as_bytes(), &[0xff]].concat());
    let read = |name: &str| secret::read_file("key", &path(name));

    assert_eq!(read("good").expect("it is right").reveal(), PASSWORD);
    assert!(read("most").is_ok());
    let wrong = [
        ("large", "at most 65536 bytes"),
        ("empty", "is empty"),
        ("binary", "UTF-8"),
        ("nowhere", "can be read"),
        (".", "regular file"),
    ];
    for (name, rule) in wrong {
        let fault = read(name).expect_err(name);
        assert!(fault.rule.contains(rule), "{name}: {fault}");
        assert!(!format!("{fault:?}").contains(PASSWORD), "{fault}");
    }
    if cfg!(unix) {
        let endless = secret::read_file("key", std::path::Path::new("/dev/zero")).expect_err("no file");
        assert!(endless.rule.contains("regular file"), "{endless}");
    }
}

#[cfg(feature = "console")]
#[test]
fn the_secret_of_the_console_is_long_enough_and_compared_as_a_whole() {
    let long = "0123456789abcdef";
    let (settings, _) = read(&[("CONSOLE_SECRET", long)]).expect("it is right");
    let secret = settings.console.secret().expect("it is right").expect("a secret");

    assert!(secret.matches(long));
    for other in ["", "0123456789abcde", "0123456789abcdef0", "1123456789abcdef"] {
        assert!(!secret.matches(other), "{other}");
    }
    assert_eq!(wrong(&[("CONSOLE_SECRET", PASSWORD)]), ["CONSOLE_SECRET"]);
    assert_eq!(wrong(&[("CONSOLE_SECRET", long), ("CONSOLE_SECRET_FILE", "x")]), ["CONSOLE_SECRET_FILE"]);
}

#[test]
fn a_password_is_in_no_error_and_in_nothing_that_is_printed() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("secret");
    fs::write(&file, [PASSWORD.as_bytes(), &[0xff]].concat()).expect("it is written");
    let file = file.to_str().expect("text");
    let url = |text: &str| text.replace("PW", PASSWORD);
    let urls = [
        "PW",
        "redis://me:PW@h:x",
        "postgres://me:PW@h/PW?PW=1",
        "mysql://me:PW@h",
        "http://:PW@h h",
        "x://PW@",
    ];
    let mut stories: Vec<Vec<(String, String)>> = Vec::new();
    let names = choices().into_iter().map(|choice| (choice.name, choice.section.to_uppercase()));
    for (name, section) in names {
        let story = |more: &[(&str, &str)]| {
            let mut all = vec![("BACKEND".to_owned(), name.to_owned())];
            all.extend(more.iter().map(|(part, value)| (format!("{section}_{part}"), (*value).to_owned())));
            all
        };
        stories.extend(urls.iter().map(|text| story(&[("URL", &url(text)), ("URLS", &url(text))])));
        stories.push(story(&[("URL", PASSWORD), ("PASSWORD", PASSWORD), ("HOST", "h")]));
        stories.push(story(&[("PASSWORD", PASSWORD)]));
        stories.push(story(&[("PASSWORD", PASSWORD), ("HOST", "h:h"), ("TLS", "off"), ("TLS_CA", "x")]));
        stories.push(story(&[("PASSWORD", PASSWORD), ("HOST", "h"), ("PASSWORD_FILE", file)]));
        stories.push(story(&[("PASSWORD_FILE", file), ("HOST", "h"), ("DATABASE", "x"), ("SCHEMA", "X")]));
    }
    let own = |variable: &str, value: &str| vec![(variable.to_owned(), value.to_owned())];
    stories.extend([own("CONSOLE_SECRET", PASSWORD), own("CONSOLE_SECRET_FILE", file)]);

    for story in &stories {
        let story: Vec<_> = story.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let error = read(&story).err().unwrap_or_else(|| panic!("{story:?} is taken"));
        let shown = format!("{error}{error:?}{error:#?}{:?}", error.as_slice());
        let data: String =
            error.as_slice().iter().map(|of| format!("{}{}{}", of.value, of.rule, of.cure)).collect();
        assert!(!shown.contains(PASSWORD) && !data.contains(PASSWORD), "{story:?}: {error}");
    }
}

#[test]
fn serde_quotes_no_secret_of_another_type() {
    let section = |value| json!({"database": {"password": value}, "console": {}});
    for value in [json!(734_215), json!([PASSWORD]), json!({"is": PASSWORD}), json!(true)] {
        let error =
            serde_json::from_value::<Settings>(section(value)).expect_err("it is no text").to_string();
        assert_eq!(error, "a secret is a text; write it in quotes");
    }
    // Nor a text in the place of a section, or of a list.
    let url = format!("postgres://user:{PASSWORD}@host");
    for settings in
        [json!({"database": url}), json!({"console": PASSWORD}), json!({"redlock": {"urls": url}})]
    {
        let error =
            serde_json::from_value::<Settings>(settings.clone()).expect_err("it is a text").to_string();
        assert!(error.starts_with("neither a section nor a list stands here"), "{error}");
        let error =
            toml::from_str::<Settings>(&toml::to_string(&settings).expect("TOML")).expect_err("it is a text");
        assert!(error.message().starts_with("neither a section"), "{error}");
    }
    let secret = Secret::new(PASSWORD);
    assert_eq!(format!("{secret:?}{secret:#?}"), "(not shown)(not shown)");
}
