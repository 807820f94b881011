//! The files of the page, one line each: a test compares the list with the directory.

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        /// Paths below `src/console/assets`, and what is in the files.
        pub(crate) const FILES: &[(&str, &[u8])] =
            &[$(($path, include_bytes!(concat!("assets/", $path)))),*];
    };
}

files!(
    "actions.js",
    "api.js",
    "app.js",
    "edit.js",
    "format.js",
    "icon.svg",
    "index.html",
    "keys.js",
    "lib.js",
    "live.js",
    "pages/calendar.js",
    "pages/job.js",
    "pages/job_parts.js",
    "pages/jobs.js",
    "pages/locks.js",
    "pages/nodes.js",
    "pages/operations.js",
    "pages/overview.js",
    "pages/run.js",
    "pages/runs.js",
    "parts.css",
    "plots.js",
    "preview.js",
    "route.js",
    "style.css",
    "ui.js",
    "vendor/hooks.js",
    "vendor/htm.js",
    "vendor/preact.js",
    "vendor/signals-core.js",
    "vendor/signals.js",
    "vendor/uplot.css",
    "vendor/uplot.js",
);
