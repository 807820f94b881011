//! The console in a frame of a page of another site.

use std::net::TcpListener;

use actix_web::{App, HttpServer, rt, web};
use callsheet::{Callsheet, console::Console};

use crate::{
    alice,
    browser::{Browser, WIDE},
    cluster::{Served, Store, stop},
    quiet,
};

#[actix_web::test]
async fn a_page_of_another_site_that_is_named_shows_the_console_in_a_frame() {
    let node = Store::new().node(Callsheet::builder().job(quiet("import"))).await;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    // For the browser this is another site than `127.0.0.1`, where the console is.
    let portal = format!("http://localhost:{}", listener.local_addr().expect("it is bound").port());
    let console = Console::new(node.clone()).frame_ancestors([&portal]).expect("an origin");
    let served = Served::console(console.authorise(async |_| alice()));
    let page = format!("<!doctype html><title>Portal</title><iframe src=\"{}#/jobs\"></iframe>", served.url);
    let respond = move || {
        let page = page.clone();
        async move { web::Html::new(page) }
    };
    let server = HttpServer::new(move || App::new().route("/", web::get().to(respond.clone())));
    let server =
        server.workers(1).disable_signals().shutdown_timeout(1).listen(listener).expect("it listens");
    let server = server.run();
    let of_portal = server.handle();
    rt::spawn(server);
    let browser = Browser::start(WIDE).await;

    browser.open_frame_of(&format!("{portal}/")).await;

    browser.shows("import").await;
    browser.until("the stream is read", "return document.body.innerText.includes('live')", vec![]).await;
    browser.quit().await;
    of_portal.stop(false).await;
    served.stop().await;
    stop(node).await;
}
