//! An observation as a file: what `observe` writes and `plan --live` reads, so that the same plan can be made where there
//! is neither token nor key nor network. It holds no secret; see `recognise`.

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::live::Live;
use crate::manifest::Fleet;
use crate::tenancy::FleetName;

/// One number, raised with every change of what a field means or of what is observed: a planner that skips what it does
/// not know would plan wrongly.
pub const OBSERVATION_FORMAT: u32 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Observation,
}

/// Read by every version, whatever else the file holds.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(rename = "kind")]
    _kind: Kind,
    format_version: u32,
    o7s_version: String,
}

/// What was seen, of which fleet, by which version; the time and the fleet's uid are in `live`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    kind: Kind,
    format_version: u32,
    o7s_version: String,
    pub fleet_name: FleetName,
    pub live: Live,
}

impl Observation {
    pub fn new(fleet_name: FleetName, live: Live) -> Observation {
        let o7s_version = env!("CARGO_PKG_VERSION").to_owned();
        Observation { kind: Kind::Observation, format_version: OBSERVATION_FORMAT, o7s_version, fleet_name, live }
    }

    /// Reads a whole file in one pass; it is looked at a second time only to say why the first one failed.
    pub fn read(bytes: &[u8]) -> Result<Observation, Error> {
        let (version, o7s, whole) = match serde_json::from_slice::<Observation>(bytes) {
            Ok(whole) => (whole.format_version, whole.o7s_version.clone(), Ok(whole)),
            Err(source) => match serde_json::from_slice::<Head>(bytes) {
                Ok(head) => (head.format_version, head.o7s_version, Err(source)),
                Err(_) => return Err(Error::NoObservation { source }),
            },
        };
        if version != OBSERVATION_FORMAT {
            let known = OBSERVATION_FORMAT;
            return Err(Error::OtherFormat {
                what: "an observation",
                have: version.to_string(),
                o7s,
                known: known.to_string(),
            });
        }
        whole.map_err(|source| Error::NoObservation { source })
    }

    /// What was seen, if it is of that very fleet.
    pub fn of(self, fleet: &Fleet) -> Result<Live, Error> {
        let (have, want) = (self.fleet_name, &fleet.name);
        if have == *want { Ok(self.live) } else { Err(Error::OtherFleet { have, want: want.clone() }) }
    }
}
