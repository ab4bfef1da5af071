//! Numbers of everything a plan can refuse, block or stop at. Stable: scripts match on them.
//!
//! 20xx refused, 21xx blocked, 22xx limits, 23xx guards, 24xx saved files, 29xx defects of ours.

use serde::{Deserialize, Deserializer, de};

use crate::tenancy::codes;

codes! {
    ForeignService = 2001, "a service of another owner",
        "A Railway service has a name o7s needs and does not carry its mark, or carries another fleet's. It is never \
         changed. Rename or delete it on Railway, or name the pool otherwise.";
    NewerMarker = 2002, "marked by a later version",
        "An object was marked by a later version of o7s than this one, and what it means is not known here. Use that \
         version, or a later one.";
    InstanceGone = 2003, "an instance with data is gone",
        "An instance was deleted on Railway together with its volume, and tenants had data there. An empty one is \
         never put in its place. Restore the volume with the link in Railway's e-mail (48 hours), or from a backup.";
    Move = 2004, "a tenant would have to move",
        "The manifest puts a tenant into another pool or instance than the one its data is in. Put the old place back; \
         moving data comes with a later version.";
    KeyMissing = 2005, "the second key is missing",
        "Deleting data takes two keys: `state: absent` with `deletionPolicy: delete` in the manifest, and \
         `--allow-delete tenant/NAME@DATE`, no older than a day, on the run. Give the second one if the data shall go.";
    PublishService = 2007, "nowhere to publish to",
        "`publish` names a service that does not exist in the environment, or one of Ogelnates' own. Create the \
         service on Railway first, or correct the name.";
    ForeignRole = 2008, "a role of another owner",
        "A role on the instance has a tenant's name and does not carry our mark. It is never changed. Drop or rename \
         it by hand, or name the tenant otherwise.";
    ForeignDatabase = 2009, "a database of another owner",
        "A database on the instance has a tenant's name and does not carry our mark. It is never changed. Rename it by \
         hand, or name the tenant otherwise.";
    FoundTwice = 2010, "a tenant's database found twice",
        "A tenant's database was found on two instances, and which one counts would be a guess. Rename the one that is \
         not in use by hand; routes keep pointing where they pointed.";
    ImageMajor = 2011, "another major version of Postgres",
        "A new major version of Postgres cannot start on the old version's data. Put the old image back; make a new \
         pool with the new one.";
    RegionChange = 2012, "another region for data",
        "Changing the region of an instance with data moves its volume, which stops the instance. Put the region back; \
         make a new pool in the new region.";
    RenamedByHand = 2013, "renamed by hand",
        "A tenant's database or role is on its instance under another name: somebody renamed it. Nothing is made in its \
         place. Rename it back, as the message says.";
    Rename = 2014, "a tenant that cannot be renamed",
        "Both names have data, the former one has none, something else has the new name, or a name that was given up came \
         back. Nothing is renamed or made. The message says which of these, and the way out.";
    UnknownTarget = 2020, "a target that names nothing",
        "`--target` names nothing that is in the manifests or lives, and was not taken for `nothing to do`. Correct it: \
         names are those a plan shows, as in tenant/acme or instance/shared-*.";
    AdoptedGone = 2024, "an adopted database is gone",
        "A database that was adopted is not on its instance any more. o7s did not make it and puts no empty one in its \
         place. Rename it back, restore it, or release the tenant.";
    AdoptedDeletion = 2025, "an adopted database is not deleted",
        "The manifest asks to delete a database that somebody else made. Release the tenant and drop it by hand.";
    Adoption = 2026, "cannot be adopted or released so",
        "An object cannot be adopted or released as it was asked for. The message says what is in the way.";
    InstanceDown = 2101, "an instance is down",
        "The instance does not answer or does not start. Look at its deployment on Railway; its tenants wait for it and \
         the rest goes on.";
    Unseen = 2102, "an instance that cannot be asked",
        "An instance that may hold the tenant cannot be asked, so nothing is made elsewhere in its place. Bring it up, \
         or look why it does not answer, and run again.";
    DependsOn = 2103, "needs something that is refused",
        "The instance the tenant needs is refused. Settle that first: its own line says how.";
    VolumeCount = 2201, "too many volumes for the plan",
        "The project would have more volumes than its Railway plan allows. Put more tenants on an instance, delete what \
         is not needed, or raise the plan.";
    VolumeSize = 2202, "volume too large for the plan",
        "The pool's volume is larger than the Railway plan allows. Lower `volume` of the pool, or raise the plan.";
    Caps = 2203, "resources above the plan",
        "The pool's resources are above what the Railway plan allows for one service. Lower `resources`, or raise the \
         plan.";
    Connections = 2204, "more connections than the server takes",
        "The tenants of an instance may together open more connections than its server accepts. Lower \
         `serverConnections` of tiers or tenants, or raise `spec.postgres.maxConnections` of the pool, which restarts \
         its instances.";
    PoolFull = 2205, "the pool is full",
        "A pool has no room for another tenant. Raise `instances.max` or `tenantsPerInstance`, or place the tenant \
         elsewhere.";
    RemovalGuard = 2301, "too many removals at once",
        "The plan removes, suspends or renames more tenants than `safety.maxRemovals` allows, so nothing at all is written. Check the manifests; if \
         it is meant, raise `safety.maxRemovals` in the Fleet for this change.";
    NoObservation = 2401, "not an observation",
        "The file given with `--live` is not what `o7s observe` writes. Make it anew: o7s observe > live.json.";
    OtherFormat = 2402, "a file of another version",
        "The file was written by another version of o7s in a form this one does not read. Make it anew, or use the \
         version that wrote it.";
    OtherFleet = 2403, "a file of another fleet",
        "The file is about another fleet than the manifests. Take that fleet's file, or name other manifests with `-f`.";
    NoPlan = 2404, "not a saved plan",
        "The file given with `--plan` is not what `o7s plan --out` writes. Make it anew: o7s plan --out plan.json.";
    Unsafe = 2901, "a defect in o7s",
        "The independent check of the plan found a step that must never happen. Nothing was changed. Please report it \
         with the output of `o7s plan --format json`.";
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Code, D::Error> {
        let text = String::deserialize(deserializer)?;
        let known = Code::ALL.iter().copied().find(|code| code.to_string() == text);
        known.ok_or_else(|| de::Error::custom(format!("`{text}` is no code of a plan")))
    }
}
