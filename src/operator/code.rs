//! Numbers of what ends a run, and of what keeps one object from its wanted state.

use crate::tenancy::codes;

codes! {
    Stopped = 7001, "stopped on request",
        "The run got SIGINT or SIGTERM; the call in flight was finished. Run again: the next run goes on where this one \
         stopped.";
    NotBootstrapped = 7002, "no such project or environment",
        "Railway has no project with an environment of these names, as far as this token sees. Run `o7s bootstrap`, or \
         correct `spec.railway` of the Fleet.";
    SeveralProjects = 7003, "several projects of one name",
        "Which of them is meant would be a guess. Delete or rename all but one on Railway.";
    WhichWorkspace = 7004, "several workspaces to choose from",
        "The token reaches several workspaces and none has the project yet, so where to make it would be a guess. Use a \
         token of the one it shall be in.";
    ForeignControl = 7005, "the control service is another owner's",
        "A service `o7s-control` exists without our mark, or with one made under another O7S_MASTER_KEY. Rename or \
         delete it on Railway, or use the right key.";
    ControlFailed = 7006, "the control database did not come up",
        "The message says how far it came. Look at the service `o7s-control` on Railway, then run again.";
    NoControl = 7007, "no control database yet",
        "The project is there and lacks the control database, or a part of it. Run `o7s bootstrap --yes`, which makes \
         what is missing.";
    ControlDown = 7008, "the control database is down",
        "It was made once and its data is on its volume, and it does not answer now. Look at the log of `o7s-control` on \
         Railway, restart or redeploy it, then run again; with O7S_DATABASE_URL set, check that it leads there.";
    NotLeading = 7009, "the lease was lost during the run",
        "It was taken away with `o7s lease steal`, or the control database did not confirm it for seven seconds, or this \
         process was frozen for so long. Nothing more was changed. Run again; `o7s lease show` tells who holds it.";
    StalePlan = 7010, "the saved plan no longer fits",
        "The world or the manifests have changed since the plan was saved, so nothing was changed; the message names what \
         is new, different or gone. Plan and review again; with --replan-if-safe a run goes on by itself where only less is \
         left to do.";
    DeploymentFailed = 7101, "a deployment failed",
        "Railway could not deploy the instance. Read the deployment's log on Railway; the next run deploys it once more.";
    NotRunning = 7102, "an instance was not running in time",
        "Railway accepted the change and the instance did not come up within --timeout. Look at the service on Railway; \
         the next run goes on waiting for it.";
    NoAddress = 7103, "an instance has no address",
        "Its TCP proxy did not come up. Look at the service's networking on Railway, then run again.";
    NotAnswered = 7104, "Railway never answered for an object",
        "What was asked may have been carried out. Run again: the next run looks what became of it and doubles nothing.";
    ElsewhereTaken = 7105, "the name is taken in another environment",
        "Service names are unique in a Railway project, and another environment of it has this one. Look there; rename \
         or delete that service.";
    NoEntrance = 7106, "no way into a service",
        "A service that is to be adopted shows no superuser's password in its variables. Set POSTGRES_USER and \
         POSTGRES_PASSWORD to the ones its server takes, then run again.";
    Overtaken = 7107, "somebody else changed it during the run",
        "Between this run's reading and its patch another hand gave the instance another configuration on Railway. The \
         patch was not sent, so that change stands for now. Look who else changes it (a person at the dashboard, an \
         operator without a lease), then run again: the next run plans on what is there.";
    NotAsWanted = 7201, "still different after the run",
        "Everything was carried out and a fresh look still wants a change: something else changes it at the same time, \
         or Railway keeps another value. Run again; if it stays, `o7s plan` names the field.";
}
