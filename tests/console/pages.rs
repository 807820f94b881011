//! The page, and what browsers are told.

use std::io::Read;

use actix_web::{App, test as web_test, test::TestRequest};
use callsheet::console::Console;

use crate::{ask, console, get, served, started, stop};

const POLICY: &str = "content-security-policy";

#[actix_web::test]
async fn every_answer_of_the_console_has_its_policy_and_no_other_answer_has() {
    let jobs = started([]).await;
    let app = served(&console(&jobs)).await;
    let own = [
        "x-content-type-options",
        "referrer-policy",
        POLICY,
        "x-frame-options",
        "cross-origin-opener-policy",
    ];

    for (path, says) in [
        ("/console/", "read"),
        ("/console", "read"),
        ("/console/api/me", "read"),
        ("/console/api/me", "nobody"),
        ("/console/api/nothing", "read"),
        ("/console/api/jobs?limit=x", "read"),
    ] {
        let answer = ask(&app, TestRequest::get().uri(path).insert_header(("x-says", says))).await;
        for header in own {
            assert_ne!(answer.header(header), "", "{path} {header}");
        }
        let policy = answer.header(POLICY);
        assert!(
            policy.contains("script-src 'self'; ") && policy.ends_with("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.headers.get("set-cookie"), None);
    }
    for path in ["/own", "/nothing"] {
        let answer = ask(&app, TestRequest::get().uri(path)).await;
        for header in own {
            assert_eq!(answer.header(header), "", "{path} {header}");
        }
    }
    stop(jobs).await;
}

#[actix_web::test]
async fn who_may_frame_the_console_can_be_said() {
    let jobs = started([]).await;
    let framed =
        Console::new(jobs.clone()).frame_ancestors(["https://portal.example", "https://b.example:8443"]);
    let app = served(&framed.expect("origins").anyone_may_read()).await;

    let answer = ask(&app, TestRequest::get().uri("/console/api/me")).await;

    let policy = answer.header(POLICY);
    assert!(policy.ends_with("frame-ancestors https://portal.example https://b.example:8443"), "{policy}");
    assert_eq!(answer.header("x-frame-options"), "");
    stop(jobs).await;
}

#[actix_web::test]
async fn the_root_without_its_slash_leads_to_the_one_with_it() {
    let jobs = started([]).await;
    let console = Console::new(jobs.clone()).anyone_may_read();
    let app = web_test::init_service(
        App::new().service(console.scope("/a/b:c")).service(console.scope("/console/")),
    )
    .await;
    let at = async |path: &str| web_test::call_service(&app, TestRequest::get().uri(path).to_request()).await;

    for (path, location) in [("/a/b:c", "./b:c/"), ("/console", "./console/")] {
        let response = at(path).await;
        assert_eq!(response.status(), 307, "{path}");
        assert_eq!(response.headers().get("location").expect("it has one"), location);
    }
    for path in ["/a/b:c/", "/console/", "/console/api/me"] {
        assert_eq!(at(path).await.status(), 200, "{path}");
    }
    stop(jobs).await;
}

#[actix_web::test]
async fn at_the_root_of_an_application_it_leaves_the_other_routes_alone() {
    let jobs = started([]).await;
    let console = Console::new(jobs.clone()).anyone_may_read();
    let own = actix_web::web::get().to(async || "its own");
    let app = web_test::init_service(App::new().route("/own", own).service(console.scope("/"))).await;
    let at = async |path: &str| web_test::call_service(&app, TestRequest::get().uri(path).to_request()).await;

    for path in ["/", "/api/me"] {
        let response = at(path).await;
        assert_eq!(
            (response.status().as_u16(), response.headers().contains_key(POLICY)),
            (200, true),
            "{path}"
        );
    }
    let own = at("/own").await;
    assert_eq!((own.status().as_u16(), own.headers().contains_key(POLICY)), (200, false));
    stop(jobs).await;
}

#[actix_web::test]
async fn files_have_names_for_ever_and_the_page_is_asked_for_again() {
    let jobs = started([]).await;
    let app = served(&console(&jobs)).await;
    let ask_for = async |path: &str, header: (&'static str, String)| {
        let request = TestRequest::get().uri(path).insert_header(("x-says", "read")).insert_header(header);
        ask(&app, request).await
    };
    let none = || ("accept", "*/*".to_owned());

    let page = ask_for("/console/", none()).await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert_eq!(page.header("cache-control"), "private, no-cache");
    assert!(!page.text.contains("assets/_/"), "each has the hash");
    let again = ask_for("/console/", ("if-none-match", page.header("etag").to_owned())).await;
    assert_eq!((again.status, again.text.as_str()), (304, ""));

    // Every file that the page names is there, and is kept.
    for file in page.text.split('"').filter(|part| part.starts_with("assets/")) {
        let url = format!("/console/{file}");
        let plain = ask_for(&url, none()).await;
        assert_eq!(plain.status, 200, "{file}");
        assert_eq!(plain.header("cache-control"), "private, max-age=31536000, immutable");
        let request = TestRequest::get().uri(&url).insert_header(("x-says", "read"));
        let response = app.call(request.insert_header(("accept-encoding", "gzip, br"))).await;
        if response.headers().get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
            let body = actix_web::body::to_bytes(response.into_body()).await.expect("it is there");
            let mut unpacked = String::new();
            flate2::read::GzDecoder::new(&*body).read_to_string(&mut unpacked).expect("it is gzip");
            assert_eq!(unpacked, plain.text, "{file}");
        }
        let old = url.replace("assets/", "assets/0");
        assert_eq!(ask_for(&old, none()).await.status, 404, "{old}");
    }
    let missing = get(&app, "../assets/0/index.html").await;
    assert_eq!(missing.status, 404);
    stop(jobs).await;
}
