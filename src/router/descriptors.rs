//! The process's limit of open descriptors. Each client takes one, and each server connection.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit as far as the system lets this process: what a shell starts with is a thousand or so, for the sake of
/// programs that are not made for more. Yields what it is then; `None` is without a limit.
pub fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of descriptors stays at {current:?}");
            current
        }
    }
}
