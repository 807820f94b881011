//! An agent, a token or a URL that is of no use is refused, with the cause and the cure, and the token never shows.

use callsheet::{
    Callsheet, StartError,
    backend::Consul,
    port::{RecordsError, Version},
};
use tokio::net::TcpListener;

use super::{
    SECOND,
    harness::{Agent, Manner, TOKEN},
    put, write,
};

/// What opening a session answers.
async fn refusal(consul: Consul) -> RecordsError {
    let shown = format!("{consul:?}");
    let error = consul.records().open(10 * SECOND).await.expect_err(&format!("{shown}: it opens"));
    assert!(!shown.contains(TOKEN) && !format!("{error} {error:?}").contains(TOKEN), "{shown}: {error:?}");
    error
}

async fn refused(url: &str, reason: &str) {
    match refusal(Consul::new("scope", url)).await {
        RecordsError::Refused { reason: said } => assert!(said.contains(reason), "{reason}: {said}"),
        other => panic!("{reason}: {other:?}"),
    }
}

async fn unavailable(url: &str, reason: &str) {
    match refusal(Consul::new("scope", url)).await {
        RecordsError::Unavailable { reason: said } => assert!(said.contains(reason), "{reason}: {said}"),
        other => panic!("{reason}: {other:?}"),
    }
}

#[tokio::test]
async fn a_token_needs_the_rights_that_are_documented() {
    let manner = Manner { token: Some(TOKEN), writes_below: "callsheet/scope/", ..Manner::default() };
    let agent = Agent::start_with(manner.clone());
    let url = agent.url_with(TOKEN);

    refused(&agent.url(), "check the token in the URL").await;
    refused(&agent.url_with("wrong"), "ACL not found").await;
    let other = Consul::new("other", &url).records();
    let denied = other.commit(&put("job", Version::ABSENT, "one")).await;
    assert!(
        matches!(&denied, Err(RecordsError::NotDone { reason }) if reason.contains("the rights that the documentation")),
        "a right that is missing is no conflict: {denied:?}"
    );

    let records = Consul::new("scope", &url).records();
    let session = records.open(10 * SECOND).await.expect("it opens");
    write(&*records, "job", Version::ABSENT, "one").await;
    drop(records.subscribe().await.expect("a subscription"));
    assert_eq!(records.renew(session).await, Ok(true));
    records.end(session).await.expect("it ends");
}

#[tokio::test]
async fn an_agent_that_is_not_there_is_unavailable_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let silent = listener.local_addr().expect("an address").port();
    let url = format!("http://:{TOKEN}@127.0.0.1:{silent}");
    assert_eq!(refusal(Consul::new("scope", &url)).await, RecordsError::Timeout);
    drop(listener);
    unavailable(&url, "whether the agent runs").await;
    unavailable(&url.replace("http", "https"), "whether the agent runs").await;
}

#[tokio::test]
async fn what_is_no_agent_is_not_taken_for_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 4_096]).await;
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await;
        }
    });
    match refusal(Consul::new("scope", format!("http://127.0.0.1:{port}"))).await {
        RecordsError::NotDone { reason } => {
            assert!(reason.contains("whether a Consul agent listens"), "{reason}")
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_url_that_is_none_is_refused() {
    refused(&format!("consul://{TOKEN}@h"), "its scheme is http or https").await;
}

#[tokio::test]
async fn bad_settings_are_all_reported_at_first_and_without_the_token() {
    let consul = Consul::new("", format!("http://:{TOKEN}@h:x")).lease(SECOND);
    let shown = format!("{consul:?}");
    let Err(StartError::Invalid(faults)) = Callsheet::builder().backend(consul).start().await else {
        panic!("it started");
    };
    let text = faults.to_string();
    for what in ["consul: scope", "consul: lease", "consul: url"] {
        assert!(text.contains(what), "{what} is missing in\n{text}");
    }
    assert!(!text.contains(TOKEN) && !shown.contains(TOKEN), "{text}\n{shown}");
}
