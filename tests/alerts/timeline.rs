//! What a scraper read, minute by minute.

use std::collections::BTreeMap;

use callsheet::{
    metrics::{HISTOGRAMS, Prometheus},
    testkit::Rig,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

use super::stories::MINUTE;

/// A recorder as an application installs it, of a process that a scraper knows by a name.
pub(crate) struct Process {
    pub(crate) recorder: PrometheusRecorder,
    instance: &'static str,
}

impl Process {
    pub(crate) fn new(instance: &'static str) -> Self {
        let with_buckets = |builder: PrometheusBuilder, (name, buckets): (&str, &[f64])| {
            let metric = Matcher::Full(name.to_owned());
            builder.set_buckets_for_metric(metric, buckets).expect("it has buckets")
        };
        let builder = HISTOGRAMS.into_iter().fold(PrometheusBuilder::new(), with_buckets);
        Self { recorder: builder.build_recorder(), instance }
    }

    fn scrape(&self) -> BTreeMap<String, f64> {
        series_of(&Prometheus::with_handle(self.recorder.handle()).render(), self.instance)
    }
}

/// The series in a text that was scraped, with the label that a scraper adds.
pub(crate) fn series_of(text: &str, instance: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| line.starts_with("callsheet_"));
    let series = lines.filter_map(|line| line.rsplit_once(' ')).map(|(series, value)| {
        let series = series.replacen('{', &format!("{{instance=\"{instance}\","), 1);
        (series, value.parse().expect("it is a number"))
    });
    series.collect()
}

/// The values of each series, of minute 0 and so on; `None` where there was none.
#[derive(Default)]
pub(crate) struct Timeline {
    series: BTreeMap<String, Vec<Option<f64>>>,
    minutes: usize,
}

impl Timeline {
    /// So many minutes in which nothing is scraped.
    pub(crate) fn of_nobody(minutes: usize) -> Self {
        Self { series: BTreeMap::new(), minutes }
    }

    /// Lets so many minutes pass, and scrapes at the beginning of each.
    pub(crate) async fn watch(&mut self, rig: &mut Rig, processes: &[&Process], minutes: usize) {
        for _ in 0..minutes {
            self.scrape(processes);
            rig.advance(MINUTE).await;
        }
    }

    fn scrape(&mut self, processes: &[&Process]) {
        for (series, value) in processes.iter().flat_map(|process| process.scrape()) {
            let values = self.series.entry(series).or_default();
            values.resize(self.minutes, None);
            values.push(Some(value));
        }
        self.minutes += 1;
    }

    /// What was scraped at the same time of others.
    pub(crate) fn beside(mut self, other: Self) -> Self {
        self.minutes = self.minutes.max(other.minutes);
        self.series.extend(other.series);
        self
    }

    /// Sets a metric to what it would be.
    pub(crate) fn set_by_hand(mut self, metric: &str, value: f64) -> Self {
        let start = format!("{metric}{{");
        let of_metric = self.series.iter_mut().filter(|(series, _)| series.starts_with(&start));
        of_metric.for_each(|(_, values)| values.fill(Some(value)));
        self
    }

    pub(crate) fn minutes(&self) -> usize {
        self.minutes
    }

    /// Each series, and its values as `promtool` has them.
    pub(crate) fn written(&self) -> impl Iterator<Item = (&str, String)> {
        self.series.iter().map(|(series, values)| {
            let chunks = values.chunk_by(|value, next| value == next).enumerate();
            let written = chunks.map(|(nth, chunk)| match (chunk[0], chunk.len()) {
                (Some(value), length) => format!("{value}x{}", length - 1),
                (None, length) if nth == 0 => format!("_x{length}"),
                // What a scraper says of a series that has ended.
                (None, 1) => "stale".to_owned(),
                (None, length) => format!("stale _x{}", length - 1),
            });
            let mut written: Vec<_> = written.collect();
            if values.len() < self.minutes {
                written.push("stale".to_owned());
            }
            (series.as_str(), written.join(" "))
        })
    }
}
