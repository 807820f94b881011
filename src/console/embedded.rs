//! The files of the page, one line each: a test compares the list with the directory.

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        /// Paths below `src/console/assets`, and what is in the files.
        pub(crate) const FILES: &[(&str, &[u8])] =
            &[$(($path, include_bytes!(concat!("assets/", $path)))),*];
    };
}

files!();
