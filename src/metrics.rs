//! What a scraper sees.
//!
//! The engine speaks to the `metrics` facade only, so any recorder works; install it before
//! [`start`](crate::Builder::start). [`HISTOGRAMS`] holds the recommended buckets. With the feature
//! `prometheus`, `Prometheus` is a recorder with these buckets and its `/metrics` resource for actix-web.

pub use callsheet_actors::metrics::{
    CLAIM_DURATION_BUCKETS, HISTOGRAMS, JOB_LABEL_ONCE, JOB_LABEL_OTHER, JOB_LABELS_DEFAULT,
    JOB_LABELS_EVER_FACTOR, RUN_DURATION_BUCKETS, SCOPE_LABEL_LOCAL, TICK_LATENESS_BUCKETS,
};
#[cfg(feature = "prometheus")]
pub use {
    metrics_exporter_prometheus::PrometheusHandle,
    prometheus::{InstallError, Prometheus},
};

#[cfg(feature = "prometheus")]
mod prometheus {
    use std::{
        sync::{Arc, mpsc},
        thread,
        time::Duration,
    };

    use actix_web::{HttpResponse, Resource, http::header, web};
    use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

    use super::HISTOGRAMS;

    /// How often upkeep runs: histograms grow between two runs while nobody scrapes.
    const UPKEEP_PERIOD: Duration = Duration::from_secs(5);

    /// A Prometheus recorder, and what serves it. Cheap to clone.
    #[derive(Clone)]
    pub struct Prometheus {
        handle: PrometheusHandle,
        /// Upkeep ends when the last clone is dropped.
        _upkeep: Option<Arc<mpsc::Sender<()>>>,
    }

    impl Prometheus {
        /// Installs a recorder of its own, with the recommended buckets and with upkeep every 5 s on a thread
        /// of its own. To be called once, before the scheduler starts.
        ///
        /// # Errors
        ///
        /// [`InstallError`]: the process has a recorder already (use [`with_handle`](Self::with_handle)), or
        /// the thread could not be started.
        pub fn install() -> Result<Self, InstallError> {
            let mut builder = PrometheusBuilder::new();
            for (name, buckets) in HISTOGRAMS {
                builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), buckets)?;
            }
            let handle = builder.install_recorder()?;
            let (alive, dropped) = mpsc::channel::<()>();
            let upkeep = handle.clone();
            thread::Builder::new().name("callsheet-upkeep".to_owned()).spawn(move || {
                while dropped.recv_timeout(UPKEEP_PERIOD) == Err(mpsc::RecvTimeoutError::Timeout) {
                    upkeep.run_upkeep();
                }
            })?;
            Ok(Self { handle, _upkeep: Some(Arc::new(alive)) })
        }

        /// Serves the recorder that the application installed, which also sees to its upkeep.
        pub fn with_handle(handle: PrometheusHandle) -> Self {
            Self { handle, _upkeep: None }
        }

        /// Renders the metrics in Prometheus' text format.
        pub fn render(&self) -> String {
            self.handle.render()
        }

        /// Makes an actix-web resource that answers `GET path` with the metrics.
        ///
        /// ```
        /// # fn app(prometheus: callsheet::metrics::Prometheus) {
        /// let app = actix_web::App::new().service(prometheus.resource("/metrics"));
        /// # }
        /// ```
        pub fn resource(&self, path: &str) -> Resource {
            let prometheus = self.clone();
            web::resource(path).route(web::get().to(move || {
                let text = prometheus.render();
                async move {
                    let format = (header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
                    HttpResponse::Ok().insert_header(format).body(text)
                }
            }))
        }
    }

    /// Why no recorder was installed.
    #[derive(Debug, thiserror::Error)]
    #[non_exhaustive]
    pub enum InstallError {
        /// The process has a recorder already.
        #[error(
            "no recorder was installed: the process has one already; serve it with Prometheus::with_handle"
        )]
        Recorder(#[from] BuildError),
        /// The thread for upkeep could not be started.
        #[error("the thread for upkeep could not be started")]
        Thread(#[from] std::io::Error),
    }
}
