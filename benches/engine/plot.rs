//! Draws what was found: started ticks and lateness over the load that was offered.

use std::path::Path;

use anyhow::bail;
use plotters::{coord::Shift, prelude::*};

use crate::report::{Point, Report};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// What is drawn over the load, one above the other.
const ROWS: [(&str, &str); 2] = [("started a second", "started"), ("lateness p99, ms", "p99")];
const COLUMN_PIXELS: u32 = 340;
const ROW_PIXELS: u32 = 280;
/// Below this, the lateness of a body is that of a timer.
const LEAST_MILLIS: f64 = 0.1;

/// A side has the same colour in all drawings.
const COLOURS: [(&str, RGBColor); 4] = [
    ("callsheet", RGBColor(31, 119, 180)),
    ("callsheet, local", RGBColor(23, 190, 207)),
    ("tokio", RGBColor(127, 127, 127)),
    ("tokio-cron", RGBColor(214, 39, 40)),
];
const COLOUR_OF_PEER: RGBColor = RGBColor(148, 103, 189);

pub(crate) fn draw(report: &Report, to: &Path) -> anyhow::Result<()> {
    let overload = |point: &&Point| point.table == "overload";
    let mut sizes: Vec<u64> = report.points.iter().filter(overload).map(|point| point.jobs).collect();
    sizes.sort_unstable();
    sizes.dedup();
    if sizes.is_empty() {
        bail!("there is no overload in what was found");
    }
    let pixels = (COLUMN_PIXELS * sizes.len() as u32, ROW_PIXELS * ROWS.len() as u32);
    let root = SVGBackend::new(to, pixels).into_drawing_area();
    root.fill(&WHITE)?;
    let panels = root.split_evenly((ROWS.len(), sizes.len()));
    for (row, (title, key)) in ROWS.iter().enumerate() {
        for (column, &jobs) in sizes.iter().enumerate() {
            let title = format!("{}: {title}", short(jobs as f64));
            panel(&panels[row * sizes.len() + column], report, jobs, &title, key)?;
        }
    }
    root.present()?;
    println!("{}", to.display());
    Ok(())
}

fn panel(area: &Area<'_>, report: &Report, jobs: u64, title: &str, key: &str) -> anyhow::Result<()> {
    let lines = lines(report, jobs, key);
    let all = || lines.iter().flat_map(|(_, points)| points);
    let bounds = |of: fn(&(f64, f64)) -> f64| {
        let values = || all().map(of);
        (values().fold(f64::INFINITY, f64::min) * 0.7)..(values().fold(0.0, f64::max) * 1.5)
    };
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 15))
        .margin(8)
        .x_label_area_size(34)
        .y_label_area_size(48)
        .build_cartesian_2d(bounds(|point| point.0).log_scale(), bounds(|point| point.1).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("offered a second")
        .x_labels(5)
        .y_labels(6)
        .x_label_formatter(&|value| short(*value))
        .y_label_formatter(&|value| short(*value))
        .light_line_style(WHITE)
        .draw()?;
    for (side, points) in lines {
        let colour = COLOURS.iter().find(|(name, _)| *name == side).map_or(COLOUR_OF_PEER, |found| found.1);
        let style = colour.stroke_width(2);
        let dots = points.iter().map(|point| Circle::new(*point, 2, colour.filled()));
        chart.draw_series(dots)?;
        let line = chart.draw_series(LineSeries::new(points.clone(), style))?;
        line.label(side).legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], style));
    }
    let corner =
        if key == "started" { SeriesLabelPosition::LowerRight } else { SeriesLabelPosition::UpperLeft };
    chart
        .configure_series_labels()
        .position(corner)
        .background_style(WHITE.mix(0.8))
        .label_font(("sans-serif", 11))
        .draw()?;
    Ok(())
}

/// The sides, each with its points in the order of the load.
fn lines(report: &Report, jobs: u64, key: &str) -> Vec<(String, Vec<(f64, f64)>)> {
    let mut lines: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for point in &report.points {
        // Of that crate there is one load for each number of jobs.
        let cron = point.table == "seconds" && point.side == "tokio-cron" && jobs == 1_000;
        let value = point.value(key);
        if !value.is_finite() || !(cron || (point.table == "overload" && point.jobs == jobs)) {
            continue;
        }
        let value = (point.offered, value.max(LEAST_MILLIS));
        match lines.iter_mut().find(|(side, _)| *side == point.side) {
            Some((_, points)) => points.push(value),
            None => lines.push((point.side.clone(), vec![value])),
        }
    }
    for (_, points) in &mut lines {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    lines
}

fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{} M", round(value / 1e6)),
        value if value >= 1e3 => format!("{} k", round(value / 1e3)),
        value => round(value),
    }
}

fn round(value: f64) -> String {
    if value >= 10.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}").trim_end_matches(".0").to_owned()
    }
}
