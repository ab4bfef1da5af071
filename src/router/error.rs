//! What keeps a router from serving. What its clients are told is `protocol::error`'s.

use super::code::Code;
use super::{routes_file, serve};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Serve(#[from] serve::Error),
    #[error(transparent)]
    Routes(#[from] routes_file::Error),
}

impl Error {
    pub fn code(&self) -> Code {
        match self {
            Error::Serve(serve::Error::Listen { .. }) => Code::Listen,
            Error::Serve(serve::Error::Tls(_)) => Code::Certificate,
            Error::Serve(serve::Error::Threads(_)) => Code::Resources,
            Error::Routes(_) => Code::RoutesFile,
        }
    }

    pub fn help(&self) -> &'static str {
        match self.code() {
            Code::Listen => "stop what listens there, or choose another address with --listen",
            Code::Certificate => {
                "check the files of --tls-cert and --tls-key, one key for each certificate, in that order"
            }
            Code::Resources => "raise the limit of open files (ulimit -n) and of processes, then start it again",
            Code::RoutesFile => "see the example in o7s router --help",
        }
    }

    /// As of sysexits(3): bad input, or the system's fault.
    pub fn exit_code(&self) -> u8 {
        if self.code() == Code::RoutesFile { 65 } else { 1 }
    }
}
