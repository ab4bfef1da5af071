//! What ends a whole run. What concerns one object is a [`super::Failure`] and lets the rest go on.

use super::code::Code;
use crate::tenancy::ErrorCode;
use crate::{plan, railway, store};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Railway(#[from] railway::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    /// SIGINT or SIGTERM; what was done is in the report.
    #[error("stopped on request")]
    Stopped,
    /// Overtaken, cut off from the control database, or frozen for too long: nothing is changed any more.
    #[error("this run does not hold the lease any more")]
    NotLeading,
    #[error("no project `{project}` with an environment `{environment}` on Railway")]
    NotBootstrapped { project: String, environment: String },
    #[error("project `{project}`, environment `{environment}` has no control database: {lacks}")]
    NoControl { project: String, environment: String, lacks: String },
    /// It was made once, and its data is on its volume.
    #[error("the control database is down: service `o7s-control` is there, {state}")]
    ControlDown {
        state: String,
        #[source]
        silence: store::Error,
    },
    #[error("{count} Railway projects are called `{project}`: {ids}")]
    SeveralProjects { project: String, count: usize, ids: String },
    #[error("the token reaches {count} workspaces ({names}), and none has a project `{project}` yet")]
    WhichWorkspace { project: String, count: usize, names: String },
    #[error("the control service `{name}` exists and is not ours")]
    ForeignControl { name: String },
    #[error("the control database did not come up: {reason}")]
    ControlFailed { reason: String, help: String },
    #[error("the saved plan no longer fits: {differences}")]
    StalePlan { differences: String },
    /// A defect of ours; see `plan::check`.
    #[error("the plan fails its own safety check: {}", found.join("; "))]
    Unsafe { found: Vec<String> },
}

impl Error {
    pub fn code(&self) -> ErrorCode {
        match self {
            Error::Railway(error) => error.code().into(),
            Error::Store(error) => error.code().into(),
            Error::Stopped => Code::Stopped.into(),
            Error::NotLeading => Code::NotLeading.into(),
            Error::NotBootstrapped { .. } => Code::NotBootstrapped.into(),
            Error::SeveralProjects { .. } => Code::SeveralProjects.into(),
            Error::WhichWorkspace { .. } => Code::WhichWorkspace.into(),
            Error::ForeignControl { .. } => Code::ForeignControl.into(),
            Error::ControlFailed { .. } => Code::ControlFailed.into(),
            Error::NoControl { .. } => Code::NoControl.into(),
            Error::ControlDown { .. } => Code::ControlDown.into(),
            Error::StalePlan { .. } => Code::StalePlan.into(),
            Error::Unsafe { .. } => plan::Code::Unsafe.into(),
        }
    }

    pub fn help(&self) -> String {
        match self {
            Error::Railway(error) => error.help(),
            Error::Store(error) => error.help().to_owned(),
            Error::Stopped => "run again: the next run goes on where this one stopped".into(),
            Error::NotLeading => {
                "run it again; o7s lease show tells who holds the lease, and nothing is done twice".into()
            }
            Error::NotBootstrapped { .. } => {
                "run `o7s bootstrap --yes`, or correct `spec.railway` in the Fleet".into()
            }
            Error::NoControl { .. } => "run `o7s bootstrap --yes`, which makes what is missing".into(),
            Error::ControlDown { .. } => {
                "look at the log of `o7s-control` on Railway, restart or redeploy it (its data \
                 stays on its volume), then run again; with O7S_DATABASE_URL set, check that it leads there"
                    .into()
            }
            Error::SeveralProjects { .. } => "delete or rename all but one of them on Railway".into(),
            Error::WhichWorkspace { .. } => "use a token of the one workspace the project shall be in".into(),
            Error::ForeignControl { .. } => "rename or delete that service on Railway; it lacks our marker, or the \
                 marker was made with another O7S_MASTER_KEY"
                .into(),
            Error::ControlFailed { help, .. } => help.clone(),
            Error::StalePlan { .. } => {
                "plan and review again; --replan-if-safe goes on by itself where only less is left to do".into()
            }
            Error::Unsafe { .. } => {
                "nothing was changed; please report it with the output of `o7s plan --format json`".into()
            }
        }
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Railway(error) => error.exit_code(),
            Error::Store(error) => store_exit_code(error),
            Error::Stopped => 130,
            Error::NotBootstrapped { .. }
            | Error::NoControl { .. }
            | Error::ControlFailed { .. }
            | Error::NotLeading => 1,
            Error::ControlDown { .. } => 7,
            Error::SeveralProjects { .. } | Error::WhichWorkspace { .. } | Error::ForeignControl { .. } => 4,
            Error::StalePlan { .. } | Error::Unsafe { .. } => 4,
        }
    }
}

/// The exit code of a command that ends with this error of the control database.
pub fn store_exit_code(error: &store::Error) -> u8 {
    use store::Error::*;
    match error {
        BadUrl { .. } => 64,
        NotListening { .. } | NotEncrypted { .. } => 7,
        WrongPassword { .. } => 77,
        NewerSchema { .. } | StaleEpoch { .. } => 4,
        LeaseHeld { .. } => 6,
        NotBootstrapped | OlderSchema { .. } | LeaseLost { .. } | Sql { .. } | Migrate { .. } | Unreadable { .. } => {
            1
        }
    }
}
