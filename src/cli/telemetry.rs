//! Logs go to stderr, off by default below warnings; `O7S_LOG` sets the filter.

use tracing_subscriber::EnvFilter;

use super::config;

pub fn init() {
    let filter = config::log_filter().unwrap_or_else(|| "warn".to_owned());
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("warn"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A second initialisation can only come from a test in the same process.
    let _ = logs.try_init();
}
