//! Why a saved file cannot be planned with.

use super::code::Code;
use crate::tenancy::FleetName;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("is no observation of o7s")]
    NoObservation {
        #[source]
        source: serde_json::Error,
    },
    #[error("is no saved plan of o7s")]
    NoPlan {
        #[source]
        source: serde_json::Error,
    },
    #[error("is {what} of format {have}, written by o7s {o7s}; this version reads format {known}")]
    OtherFormat { what: &'static str, have: String, o7s: String, known: String },
    #[error("is an observation of fleet {have}, the manifests are of fleet {want}")]
    OtherFleet { have: FleetName, want: FleetName },
}

impl Error {
    pub fn code(&self) -> Code {
        match self {
            Error::NoObservation { .. } => Code::NoObservation,
            Error::NoPlan { .. } => Code::NoPlan,
            Error::OtherFormat { .. } => Code::OtherFormat,
            Error::OtherFleet { .. } => Code::OtherFleet,
        }
    }

    pub fn help(&self) -> &'static str {
        match self {
            Error::NoObservation { .. } => "write it with: o7s observe > live.json",
            Error::NoPlan { .. } => "write it with: o7s plan --out plan.json",
            Error::OtherFormat { .. } => {
                "make the file anew with this version of o7s, or use the version that wrote it"
            }
            Error::OtherFleet { .. } => "take the observation of that fleet, or other manifests with -f",
        }
    }
}
