//! Ctrl-C and SIGTERM: the first asks the run to stop after the call in flight, the second ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::report::Failure;

const SIGINT: u8 = 130;
const SIGTERM: u8 = 143;

/// Cancels `token` on the first signal. Lives as long as the command.
pub struct Signals {
    pub token: CancellationToken,
    code: Arc<AtomicU8>,
    _listener: JoinSet<()>,
}

impl Signals {
    pub fn listen() -> std::io::Result<Signals> {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (token, code) = (CancellationToken::new(), Arc::new(AtomicU8::new(0)));
        let (stop, seen) = (token.clone(), Arc::clone(&code));
        let mut listener = JoinSet::new();
        listener.spawn(async move {
            loop {
                let number = tokio::select! {
                    _ = interrupt.recv() => SIGINT,
                    _ = terminate.recv() => SIGTERM,
                };
                if seen.swap(number, Ordering::Relaxed) != 0 {
                    std::process::exit(i32::from(number));
                }
                super::progress::say("stopping after the call in flight; once more ends at once");
                stop.cancel();
            }
        });
        Ok(Signals { token, code, _listener: listener })
    }

    /// Stopped before there was something to report on: the signal's own code, not the error's.
    pub fn settle(&self, result: Result<u8, Failure>) -> Result<u8, Failure> {
        match (result, self.exit_code()) {
            (Err(failure), Some(exit_code)) if failure.is_stop() => Err(Failure::Stopped { exit_code }),
            (result, _) => result,
        }
    }

    /// The exit code of the signal that came, if one did.
    pub fn exit_code(&self) -> Option<u8> {
        Some(self.code.load(Ordering::Relaxed)).filter(|code| *code != 0)
    }
}
