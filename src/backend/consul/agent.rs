//! The agents that are asked, one at a time.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use callsheet_actors::{Faults, port::RecordsError};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Method, header::HeaderValue, redirect::Policy};
use tokio::time::{Duration, timeout};

use super::{
    failure::{Failure, of_request, of_status},
    settings::Settings,
};
use crate::backend::failure::refused;

/// How long one agent may take until it is connected to.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_500);
/// The header with the index of what was read.
const INDEX: &str = "x-consul-index";
/// What stands in a path as it is.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.');

/// The agents of the URL.
pub(super) struct Agents {
    pub(super) settings: Arc<Settings>,
    http: OnceLock<Result<Client, RecordsError>>,
    /// Which of them is asked.
    at: AtomicUsize,
}

/// What an agent answered.
pub(super) struct Answer {
    pub(super) status: u16,
    /// The index of what was read.
    pub(super) index: Option<u64>,
    pub(super) body: Vec<u8>,
}

/// What is asked.
pub(super) struct Question<'a> {
    pub(super) method: Method,
    /// The path behind `/v1/`, as [`path`] writes it, and the query.
    pub(super) path: String,
    pub(super) body: Option<&'a [u8]>,
    /// How long the agent may wait before it answers, beyond the deadline of a call.
    pub(super) waits: Duration,
}

/// A path with what may stand in none written otherwise.
pub(super) fn path(text: &str) -> String {
    utf8_percent_encode(text, PATH).to_string()
}

impl Agents {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, http: OnceLock::new(), at: AtomicUsize::new(0) }
    }

    /// Does something within the deadline of a call. After a failure that is of the agent, the next one is asked the
    /// next time.
    pub(super) async fn call<T>(&self, call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let at = self.at.load(Ordering::Acquire);
        let called = timeout(self.settings.deadline(), call).await.unwrap_or(Err(Failure::Unknown));
        if called.as_ref().is_err_and(Failure::is_of_agent) {
            // An error: somebody else was faster.
            let _ = self.at.compare_exchange(at, at.wrapping_add(1), Ordering::AcqRel, Ordering::Acquire);
        }
        called
    }

    /// Asks one thing. 200, 404 and 409 are answers.
    pub(super) async fn ask(&self, question: Question<'_>) -> Result<Answer, Failure> {
        let http = self.http().map_err(|error| Failure::Refused(error.to_string()))?;
        let address = self.settings.store.address().map_err(|fault| Failure::Refused(fault.to_string()))?;
        let at = self.at.load(Ordering::Acquire) % address.hosts.len().max(1);
        let Some(host) = address.hosts.get(at).map(ToString::to_string) else {
            return Err(Failure::Refused("the URL names no host".to_owned()));
        };
        let scheme = if address.encrypted { "https" } else { "http" };
        let url = format!("{scheme}://{host}/v1/{}", question.path);
        let mut request = http.request(question.method, url);
        if let Some(token) = &address.token
            && let Ok(mut token) = HeaderValue::from_str(token)
        {
            token.set_sensitive(true);
            request = request.header("x-consul-token", token);
        }
        if let Some(body) = question.body {
            request = request.header("content-type", "application/json").body(body.to_vec());
        }
        let asked = async {
            let response = request.send().await?;
            let index = response.headers().get(INDEX).and_then(|index| index.to_str().ok()?.parse().ok());
            let status = response.status().as_u16();
            Ok::<_, reqwest::Error>(Answer { status, index, body: response.bytes().await?.into() })
        };
        let answer = timeout(self.settings.deadline() + question.waits, asked).await;
        match answer {
            Ok(Ok(answer)) if matches!(answer.status, 200 | 404 | 409) => Ok(answer),
            Ok(Ok(answer)) => Err(of_status(answer.status, &answer.body, &host)),
            Ok(Err(error)) => Err(of_request(&error, &host)),
            Err(_) => Err(Failure::Unknown),
        }
    }

    fn http(&self) -> Result<&Client, RecordsError> {
        let made = self.http.get_or_init(|| {
            Faults::check(self.settings.faults()).map_err(|faults| refused(faults.to_string()))?;
            let tls = self.settings.tls().map_err(|fault| refused(fault.to_string()))?;
            Client::builder()
                .tls_backend_preconfigured(tls)
                .connect_timeout(CONNECT_TIMEOUT)
                .redirect(Policy::none())
                // It never sends a token to anybody else.
                .no_proxy()
                .build()
                .map_err(|error| {
                    refused(format!("no HTTP client: {error}; this is a defect, please report it"))
                })
        });
        made.as_ref().map_err(Clone::clone)
    }
}
