//! What is refused, with its cure and without the token.

use std::fs;

use callsheet::{
    Callsheet, Job, StartError,
    backend::{Elected, Kubernetes},
    port::Election,
    schedule::every,
};

use crate::{
    LEASE, SECOND, Server,
    harness::{ApiServer, NAMESPACE, TOKEN},
    win,
};

async fn refused(node: Kubernetes) -> String {
    let builder = Callsheet::builder().backend(Elected::new(node)).connect_timeout(5 * SECOND);
    match builder.start().await {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it started"),
    }
}

#[tokio::test]
async fn what_the_server_refuses_is_named_with_its_cure() {
    let stub = ApiServer::start();
    let node = || Kubernetes::new("billing").kubeconfig(stub.kubeconfig()).lease_duration(LEASE);

    stub.forbid("get", true);
    let forbidden = refused(node()).await;
    stub.forbid("get", false);
    let stranger = stub.write_kubeconfig("stranger", "wrong-but-secret", NAMESPACE);
    let unknown = refused(node().kubeconfig(stranger)).await;
    let nowhere = refused(node().kubeconfig("/nonexistent/config")).await;

    for (text, words) in [
        (&forbidden, &["get", "apiGroups: [coordination.k8s.io]", "verbs: [get, create, update, watch]"][..]),
        (&unknown, &["does not know this node", "check the token"]),
        (&nowhere, &["/nonexistent/config", "KUBECONFIG"]),
    ] {
        assert!(words.iter().all(|words| text.contains(words)), "{text}");
        assert!(!text.contains(TOKEN) && !text.contains("secret"), "{text}");
    }
}

#[tokio::test]
async fn a_right_that_only_a_leader_needs_is_named_when_it_campaigns() {
    let stub = ApiServer::start();
    for verb in ["create", "update", "watch"] {
        let scope = format!("billing-{verb}");
        let node = || Kubernetes::new(&*scope).kubeconfig(stub.kubeconfig()).lease_duration(LEASE);
        let (first, second) = (node().elector(), node().elector());
        if verb != "create" {
            win(&first).await;
        }
        stub.forbid(verb, true);

        let error = match verb {
            "update" => first.campaign(SECOND / 5).await.expect_err("it is forbidden"),
            _ => second.campaign(SECOND / 5).await.expect_err("it is forbidden"),
        };

        let text = error.to_string();
        assert!(text.contains(&format!("does not let this node {verb}")), "{text}");
        stub.forbid(verb, false);
    }
}

#[tokio::test]
async fn a_namespace_that_is_not_there_is_named() {
    let stub = ApiServer::start();
    let node = Kubernetes::new("billing").kubeconfig(stub.kubeconfig()).namespace("elsewhere");

    let error = node.elector().campaign(SECOND / 5).await.expect_err("there is none").to_string();

    assert!(error.contains("no namespace \"elsewhere\"") && error.contains("create it"), "{error}");
}

#[tokio::test]
async fn a_token_is_read_again_from_its_file() {
    let stub = ApiServer::start();
    let (kubeconfig, token) = stub.kubeconfig_with_token_file("not-yet-valid");
    let node = || Kubernetes::new("billing").kubeconfig(&kubeconfig).lease_duration(LEASE);
    let error = node().reach().await.expect_err("it is not valid");
    assert!(error.to_string().contains("check the token"), "{error}");

    fs::write(token, TOKEN).expect("it is written");

    node().reach().await.expect("a client that begins anew reads it");
}

#[tokio::test]
async fn bad_settings_are_all_reported_at_first() {
    let node = Kubernetes::new("Billing!")
        .namespace("")
        .lease_duration(SECOND / 2)
        .renew_deadline(SECOND * 60)
        .retry_period(SECOND * 60)
        .deadline(SECOND * 60);

    let text = refused(node).await;

    for what in ["scope", "namespace", "lease_duration", "renew_deadline", "retry_period", "deadline"] {
        assert!(text.contains(&format!("kubernetes: {what}")), "{what} is missing in\n{text}");
    }
}

#[tokio::test]
async fn a_job_that_needs_more_than_a_leader_is_refused_by_name() {
    let server = Server::start();
    let job = Job::new("report", every(SECOND)).pause_after(3).run(async |_| {});
    let builder = Callsheet::builder().job(job).backend(Elected::new(server.node("billing")));

    let Err(StartError::Invalid(faults)) = builder.start().await else { panic!("it started") };

    let text = faults.to_string();
    assert!(text.contains("job \"report\": pause_after") && text.contains("needs pauses"), "{text}");
}
