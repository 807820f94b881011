//! What an actix-web handler answers for the errors of the handle: the status of the kind, and the text.

use std::{sync::Arc, time::Duration};

use actix_web::{App, HttpResponse, http::StatusCode, test, web};
use callsheet::{Error, prelude::*};
use tokio::sync::Notify;

mod common;
use common::secs;

#[derive(Debug, Clone, Copy, serde::Deserialize)]
enum Ask {
    Trigger,
    Remove,
    Details,
    Add,
    AddInvalid,
    AddOver,
    Update,
    Pause,
    Next,
}

async fn ask(jobs: web::Data<Callsheet>, path: web::Path<(Ask, String)>) -> Result<HttpResponse, Error> {
    let (ask, name) = path.into_inner();
    let job = |schedule| Job::new(&name, schedule).run(async |_| {});
    match ask {
        Ask::Trigger => drop(jobs.trigger(&name).await?),
        Ask::Remove => drop(jobs.remove(&*name).await?),
        Ask::Details => drop(jobs.details(&name).await?),
        Ask::Add => drop(jobs.add(job(every("1h"))).await?),
        Ask::AddInvalid => drop(jobs.add(job(every("0s"))).await?),
        Ask::AddOver => drop(jobs.add(Job::new(&name, at("2001-01-01T00:00:00Z")).run(async |_| {})).await?),
        Ask::Update => drop(jobs.update(job(every("1h"))).await?),
        Ask::Pause => drop(jobs.pause(&*name).await?),
        Ask::Next => drop(jobs.next_fire_times(&name, 1).await?),
    }
    Ok(HttpResponse::NoContent().finish())
}

#[actix_web::test]
async fn an_error_is_answered_with_the_status_of_its_kind() {
    let release = Arc::new(Notify::new());
    let body = |_, release: Arc<Notify>| async move { release.notified().await };
    let job = Job::new("busy", every("1h")).run_with(release.clone(), body);
    let jobs = Callsheet::builder().job(job).start().await.expect("it starts");
    let app = App::new().app_data(web::Data::new(jobs.clone())).route("/{ask}/{name}", web::get().to(ask));
    let app = test::init_service(app).await;
    let answer = async |ask: Ask, name: &str| {
        let request = test::TestRequest::get().uri(&format!("/{ask:?}/{name}")).to_request();
        let response = test::call_service(&app, request).await;
        let status = response.status();
        (status, String::from_utf8(test::read_body(response).await.to_vec()).expect("a text"))
    };
    let unknown = "there is no job \"nobody\" on this node";

    assert_eq!(answer(Ask::Trigger, "busy").await.0, StatusCode::NO_CONTENT);
    for (ask, name, status, text) in [
        (Ask::Trigger, "nobody", StatusCode::NOT_FOUND, unknown),
        (Ask::Remove, "nobody", StatusCode::NOT_FOUND, unknown),
        (Ask::Update, "nobody", StatusCode::NOT_FOUND, unknown),
        (Ask::Pause, "nobody", StatusCode::NOT_FOUND, unknown),
        (Ask::Next, "nobody", StatusCode::NOT_FOUND, unknown),
        (Ask::Add, "busy", StatusCode::CONFLICT, "job name \"busy\": a job of this name exists"),
        (Ask::Trigger, "busy", StatusCode::CONFLICT, "job \"busy\" was not started: its lock key is held"),
        (Ask::AddInvalid, "new", StatusCode::BAD_REQUEST, "job \"new\": every \"0s\": a period is not zero"),
        (Ask::AddOver, "new", StatusCode::BAD_REQUEST, "job \"new\" would never run"),
    ] {
        let (answered, said) = answer(ask, name).await;
        assert_eq!(answered, status, "{ask:?} {name}: {said}");
        assert!(said.starts_with(text), "{ask:?} {name}: {said}");
    }
    release.notify_one();
    jobs.shutdown(secs(5)).await;

    let (answered, said) = answer(Ask::Details, "busy").await;
    assert_eq!(
        (answered, &*said),
        (StatusCode::SERVICE_UNAVAILABLE, "the scheduler has stopped; start another one")
    );
}

#[actix_web::test]
async fn every_kind_of_error_has_a_word_and_a_status() {
    let jobs = Callsheet::builder().start().await.expect("it starts");
    let error = jobs.trigger("nobody").await.expect_err("there is none");
    assert_eq!((error.kind(), error.kind().to_string()), (ErrorKind::NotFound, "not_found".to_owned()));
    jobs.shutdown(Duration::ZERO).await;

    let words: Vec<_> = ErrorKind::ALL.into_iter().map(ErrorKind::as_str).collect();
    assert_eq!(words, ["not_found", "exists", "invalid", "over", "busy", "unavailable", "stopped"]);
}
