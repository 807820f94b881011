//! A browser that a test drives as a person would, and what it complained about.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use thirtyfour::{
    ChromiumLikeCapabilities, DesiredCapabilities, Key, WebDriver, WebElement,
    common::capabilities::firefox::LoggingPrefsLogLevel,
};
use tokio::time::sleep;

/// A net under every wait. Nothing takes this long unless it is broken.
const DEADLINE: Duration = Duration::from_secs(60);
/// How often chromedriver is started until it has a port.
const STARTS_MAX: usize = 5;
const LOOKS_EVERY: Duration = Duration::from_millis(50);

/// How wide a window is.
pub(crate) const WIDE: (u32, u32) = (1360, 900);
pub(crate) const NARROW: (u32, u32) = (390, 844);

/// One window of headless Chromium.
pub(crate) struct Browser {
    driver: WebDriver,
    chromedriver: Chromedriver,
}

/// The program that drives Chromium, killed when it is dropped.
struct Chromedriver(Child);

impl Drop for Chromedriver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Chromedriver {
    /// The port that it takes may be another program's by the time that it listens: then it ends, and is started anew.
    fn start() -> (Self, String) {
        let started = (0..STARTS_MAX).find_map(|_| Self::start_once());
        started.expect("chromedriver says its port")
    }

    fn start_once() -> Option<(Self, String)> {
        let mut command = Command::new("chromedriver");
        let child =
            command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut driver = Self(child.unwrap_or_else(|error| {
            panic!("chromedriver does not start: {error}; apt-get install chromium chromium-driver")
        }));
        let told = driver.0.stdout.take().expect("a pipe");
        let mut lines = BufReader::new(told).lines().map_while(Result::ok);
        let told = lines.find(|line| line.contains("started successfully on port"))?;
        let port = told.rsplit(' ').next().expect("a last word").trim_end_matches('.').to_owned();
        std::thread::spawn(move || lines.for_each(drop));
        Some((driver, format!("http://127.0.0.1:{port}")))
    }
}

impl Browser {
    pub(crate) async fn start((width, height): (u32, u32)) -> Self {
        let (chromedriver, url) = Chromedriver::start();
        let mut wanted = DesiredCapabilities::chrome();
        for argument in [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--force-prefers-reduced-motion",
            &format!("--window-size={width},{height}"),
        ] {
            wanted.add_arg(argument).expect("an argument");
        }
        if width < 600 {
            // A window of the desktop is never this narrow.
            let metrics = json!({"deviceMetrics": {"width": width, "height": height, "pixelRatio": 1.0}});
            wanted.add_experimental_option("mobileEmulation", metrics).expect("an option");
        }
        wanted.set_browser_log_level(LoggingPrefsLogLevel::All).expect("a level");
        // Its client wants one, although it speaks to this machine without TLS. Another test may have set it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let driver = WebDriver::new(url, wanted).await.unwrap_or_else(|error| panic!("no session: {error}"));
        Self { driver, chromedriver }
    }

    /// Opens a page of the console: an address behind its `#/`.
    pub(crate) async fn open(&self, console: &str, page: &str) {
        // The same address again would load nothing.
        self.driver.goto("about:blank").await.expect("it loads");
        self.driver.goto(format!("{console}#/{page}")).await.expect("it loads");
    }

    pub(crate) async fn run(&self, script: &str, arguments: Vec<Value>) -> Value {
        let done = self.driver.execute(script, arguments).await;
        done.unwrap_or_else(|error| panic!("{script}: {error}")).json().clone()
    }

    /// Waits until a script answers with something that is not `null`, `false` or empty.
    pub(crate) async fn until(&self, what: &str, script: &str, arguments: Vec<Value>) -> Value {
        let until = Instant::now() + DEADLINE;
        loop {
            let answer = self.run(script, arguments.clone()).await;
            if !matches!(&answer, Value::Null | Value::Bool(false))
                && answer != json!("")
                && answer != json!(0)
            {
                return answer;
            }
            assert!(
                Instant::now() < until,
                "{what}: never\n{}\n{:?}",
                self.text().await,
                self.complaints().await
            );
            sleep(LOOKS_EVERY).await;
        }
    }

    pub(crate) async fn text(&self) -> String {
        self.run("return document.body.innerText", vec![]).await.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page shows a text.
    pub(crate) async fn shows(&self, text: &str) {
        let script = "return document.body.innerText.includes(arguments[0])";
        self.until(&format!("the page shows {text:?}"), script, vec![json!(text)]).await;
    }

    /// Waits until the page does not show a text any more.
    pub(crate) async fn hides(&self, text: &str) {
        let script = "return !document.body.innerText.includes(arguments[0])";
        self.until(&format!("the page hides {text:?}"), script, vec![json!(text)]).await;
    }

    /// The element that a script answers with, once it does.
    async fn element(&self, what: &str, script: &str, arguments: Vec<Value>) -> WebElement {
        let until = Instant::now() + DEADLINE;
        loop {
            let found = self.driver.execute(script, arguments.clone()).await.expect("a script");
            if !found.json().is_null() {
                return found.element().expect("an element");
            }
            assert!(Instant::now() < until, "there is no {what}\n{}", self.text().await);
            sleep(LOOKS_EVERY).await;
        }
    }

    /// Clicks what has this label inside of what a selector names.
    pub(crate) async fn click_in(&self, place: &str, label: &str) {
        let script = "const said = (one) => (one.getAttribute('aria-label') || one.innerText || '').trim();
            return [...document.querySelectorAll(arguments[0] + ' :is(button, a, input, label, summary, [role=option])')]
                .find((one) => one.checkVisibility() && !one.disabled && said(one) === arguments[1]) || null";
        let arguments = vec![json!(place), json!(label)];
        let until = Instant::now() + DEADLINE;
        loop {
            let found = self.element(&format!("{label:?} in {place}"), script, arguments.clone()).await;
            match found.click().await {
                Ok(()) => return,
                // It was made anew between the look and the click.
                Err(error) => assert!(Instant::now() < until, "{label}: {error}"),
            }
            sleep(LOOKS_EVERY).await;
        }
    }

    /// Clicks a button of the head of a page.
    pub(crate) async fn click(&self, label: &str) {
        self.click_in("main", label).await;
    }

    /// Clicks a button of the open dialog.
    pub(crate) async fn confirm(&self, label: &str) {
        self.click_in("dialog[open]", label).await;
    }

    /// Writes into the field with this label.
    pub(crate) async fn fill(&self, label: &str, text: &str) {
        let script = "for (const one of document.querySelectorAll('dialog[open] label, main label')) {
                const field = one.htmlFor ? document.getElementById(one.htmlFor) : one.querySelector('input');
                if (field && one.innerText.trim().startsWith(arguments[0])) return field;
            }
            return document.querySelector(`[aria-label=\"${arguments[0]}\"]`)";
        let field = self.element(&format!("field {label:?}"), script, vec![json!(label)]).await;
        // As a person does: all of it is chosen, and typed over.
        field.send_keys(Key::Control + "a").await.expect("it takes keys");
        field.send_keys(Key::Delete + text).await.expect("it takes keys");
    }

    /// Presses keys, wherever the focus is.
    pub(crate) async fn press(&self, keys: &str) {
        let focus = self.driver.active_element().await.expect("something has the focus");
        focus.send_keys(keys).await.expect("it takes keys");
    }

    pub(crate) async fn press_ctrl(&self, key: &str) {
        let focus = self.driver.active_element().await.expect("something has the focus");
        focus.send_keys(Key::Control + key).await.expect("it takes keys");
    }

    /// Asks for light or dark colours.
    pub(crate) async fn prefer(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.driver.cdp().send_raw("Emulation.setEmulatedMedia", features).await.expect("a command");
    }

    /// When something was to be seen of the page that is shown, in milliseconds after it was asked for.
    pub(crate) async fn first_paint_ms(&self) -> f64 {
        let script = "const paint = performance.getEntriesByName('first-contentful-paint')[0];
            return paint ? paint.startTime : null";
        let painted = self.until("something is painted", script, vec![]).await;
        painted.as_f64().expect("a number")
    }

    /// The clock on the wall of whoever looks.
    pub(crate) async fn in_zone(&self, zone: &str) {
        let zone = json!({"timezoneId": zone});
        self.driver.cdp().send_raw("Emulation.setTimezoneOverride", zone).await.expect("a command");
    }

    /// Runs a script before those of each page that is opened from now on.
    pub(crate) async fn before_pages(&self, script: &str) {
        let script = json!({"source": script});
        let added = self.driver.cdp().send_raw("Page.addScriptToEvaluateOnNewDocument", script).await;
        added.expect("a command");
    }

    /// Opens another page, and looks into its first frame from then on.
    pub(crate) async fn open_frame_of(&self, portal: &str) {
        self.driver.goto(portal).await.expect("it loads");
        self.driver.enter_frame(0).await.expect("it has a frame");
    }

    /// Runs a script that calls its last argument when it is done.
    pub(crate) async fn run_async(&self, script: &str, arguments: Vec<Value>) -> Value {
        let done = self.driver.execute_async(script, arguments).await;
        done.unwrap_or_else(|error| panic!("{error}")).json().clone()
    }

    /// What the browser complained about: errors of scripts, of the policy of the page, of requests.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = self.driver.browser_log().await.expect("a log");
        let is_bad = |level: &str| matches!(level, "SEVERE" | "WARNING");
        log.into_iter().filter(|line| is_bad(&line.level)).map(|line| line.message).collect()
    }

    /// The browser ends, and has complained about nothing.
    pub(crate) async fn end(self) {
        let complaints = self.complaints().await;
        self.quit().await;
        assert_eq!(complaints, Vec::<String>::new());
    }

    pub(crate) async fn quit(self) {
        let Self { driver, chromedriver } = self;
        let _ = driver.quit().await;
        drop(chromedriver);
    }
}
