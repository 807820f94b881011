//! The console: who may do what, what it answers, and what it never does.

use std::{rc::Rc, time::Duration};

use actix_web::{
    App, HttpRequest, HttpResponse,
    body::{BoxBody, to_bytes},
    dev::ServiceResponse,
    http::header::HeaderMap,
    test::{self, TestRequest},
    web,
};
use callsheet::{
    Callsheet, Job, JobStatus, Outcome, Run,
    console::{Access, Console, Decided},
    schedule::every,
};
use futures_util::future::LocalBoxFuture;
use serde_json::Value;

mod actions;
mod answers;
mod cluster;
mod edits;
mod events;
mod hostile;
mod pages;
mod rights;

type Call = dyn Fn(TestRequest) -> LocalBoxFuture<'static, ServiceResponse<BoxBody>>;

/// What the tests ask.
pub(crate) struct Served(Box<Call>);

impl Served {
    pub(crate) async fn call(&self, request: TestRequest) -> ServiceResponse<BoxBody> {
        self.0(request).await
    }
}

/// Whoever says so in a header: `read bob`.
pub(crate) fn console(jobs: &Callsheet) -> Console<Decided> {
    Console::new(jobs.clone()).authorise(async |request: HttpRequest| {
        let says = request.headers().get("x-says").and_then(|says| says.to_str().ok()).unwrap_or_default();
        let (right, user) = says.split_once(' ').unwrap_or((says, "somebody"));
        match right {
            "read" => Access::Read(user.to_owned()),
            "operate" => Access::Operate(user.to_owned()),
            "edit" => Access::Edit(user.to_owned()),
            _ => Access::Nobody,
        }
    })
}

/// An application with a console at `/console`, and a route of its own.
pub(crate) async fn served(console: &Console<Decided>) -> Served {
    let app = App::new()
        .service(console.scope("/console"))
        .route("/own", web::get().to(async || HttpResponse::Ok().body("its own")));
    let app = Rc::new(test::init_service(app).await);
    Served(Box::new(move |request| {
        let app = app.clone();
        Box::pin(async move { test::call_service(&*app, request.to_request()).await.map_into_boxed_body() })
    }))
}

/// One answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

pub(crate) async fn ask(app: &Served, request: TestRequest) -> Answer {
    let response = app.call(request).await;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = to_bytes(response.into_body()).await.unwrap_or_else(|error| panic!("{error}"));
    Answer { status, headers, text: String::from_utf8_lossy(&body).into_owned() }
}

/// A question of somebody who may do everything.
pub(crate) async fn get(app: &Served, path: &str) -> Answer {
    ask(app, TestRequest::get().uri(&format!("/console/api/{path}")).insert_header(("x-says", "edit alice")))
        .await
}

/// Something that somebody does who may do everything.
pub(crate) async fn post(app: &Served, action: &str, body: &Value) -> Answer {
    post_as(app, "edit alice", action, body).await
}

pub(crate) async fn post_as(app: &Served, says: &str, action: &str, body: &Value) -> Answer {
    let request = TestRequest::post().uri(&format!("/console/api/actions/{action}"));
    ask(app, request.insert_header(("x-says", says.to_owned())).set_json(body)).await
}

/// An hourly job that does nothing.
pub(crate) fn quiet(name: &str) -> Job {
    Job::new(name, every(Duration::from_hours(1))).run(async |_: Run| {})
}

pub(crate) async fn started(jobs: impl IntoIterator<Item = Job>) -> Callsheet {
    Callsheet::builder().jobs(jobs).start().await.expect("they are good")
}

pub(crate) async fn status(jobs: &Callsheet, job: &str) -> JobStatus {
    jobs.details(job).await.expect("it is there")
}

pub(crate) async fn run_once(jobs: &Callsheet, job: &str) -> Outcome {
    jobs.trigger(job).await.expect("it runs").finished().await
}

pub(crate) async fn stop(jobs: Callsheet) {
    jobs.shutdown(Duration::from_secs(5)).await;
}
