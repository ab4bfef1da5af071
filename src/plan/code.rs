//! Numbers of everything a plan can refuse, block or stop at. Stable: scripts match on them.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($name:ident = $number:literal, $about:literal;)+) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Code {
            $(#[doc = $about] #[serde(rename = $number)] $name,)+
        }
        impl Code {
            pub const ALL: &'static [Code] = &[$(Code::$name),+];
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $number),+ }
            }
            /// One sentence for people.
            pub fn about(self) -> &'static str {
                match self { $(Code::$name => $about),+ }
            }
        }
    };
}

codes! {
    ForeignService = "O7S2001", "A Railway service has a name we need and is not ours; it is never changed.";
    NewerMarker = "O7S2002", "An object was marked by a later version of o7s than this one.";
    InstanceGone = "O7S2003", "An instance was deleted on Railway together with its volume, and tenants had data there.";
    Move = "O7S2004", "The manifest puts a tenant into another pool or instance, which means moving its data.";
    KeyMissing = "O7S2005", "Deleting data needs a second key on the run.";
    NotBuilt = "O7S2006", "The manifest asks for something this version does not do yet.";
    PublishService = "O7S2007", "`publish` names a service that does not exist in the environment, or one of ours.";
    ForeignRole = "O7S2008", "A role on the instance has a tenant's name and is not ours.";
    ForeignDatabase = "O7S2009", "A database on the instance has a tenant's name and is not ours.";
    FoundTwice = "O7S2010", "A tenant's database was found on two instances.";
    ImageMajor = "O7S2011", "A new major version of Postgres cannot start on the old version's data.";
    RegionChange = "O7S2012", "Changing the region of an instance with data moves its volume.";
    RenamedByHand = "O7S2013", "A tenant's database or role is on its instance under another name: somebody renamed it.";
    InstanceDown = "O7S2101", "The instance does not answer or does not start.";
    Unseen = "O7S2102", "An instance that may hold the tenant cannot be asked.";
    DependsOn = "O7S2103", "The instance the tenant needs is refused.";
    VolumeCount = "O7S2201", "The project would have more volumes than its Railway plan allows.";
    VolumeSize = "O7S2202", "The pool's volume is larger than the Railway plan allows.";
    Caps = "O7S2203", "The pool's resources are above what the Railway plan allows for one service.";
    Connections = "O7S2204", "The tenants of an instance may open more connections than its server accepts.";
    PoolFull = "O7S2205", "A pool has no room for another tenant.";
    RemovalGuard = "O7S2301", "The plan removes more than `safety.maxRemovals` allows.";
    Unsafe = "O7S2901", "The independent check of the plan found a step that must never happen: a defect in o7s.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
