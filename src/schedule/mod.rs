//! When jobs are due.
