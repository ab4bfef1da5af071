//! Numbers of what stops the local Railway.

use crate::tenancy::codes;

codes! {
    File = 8001, "a file of the local Railway",
        "Its folder cannot be read or written. Check the folder's owner and free space, or choose another with --data.";
    State = 8002, "a state that cannot be read",
        "The local Railway's folder was written by another version or by hand. Remove it to begin with an empty one.";
    PortTaken = 8003, "a port is in use",
        "Another program listens where the local Railway did before. Stop that program, or start another local Railway \
         with --data.";
    Resources = 8004, "the machine is out of something",
        "No free port, no random bytes, no thread or process. Free some resources of this machine, then start it again.";
    NotRunning = 8005, "no local Railway runs there",
        "Nothing runs on that folder. Start it: o7s local up --detach, with the same --data.";
    Silent = 8006, "the local Railway does not answer",
        "It runs and does not answer. Restart it: o7s local down, then o7s local up, with the same --data.";
    NotReady = 8007, "the local Railway did not come up",
        "It ended early or was not ready in time. The message names its log, which has the reason.";
    DoesNotEnd = 8008, "the local Railway does not end",
        "Its process ignores the request to end. End it yourself with the command shown.";
    Refused = 8009, "the local Railway refused an order",
        "The fault that was ordered is none it knows, or does not fit. See: o7s local fault --help.";
    Postgres = 8010, "a Postgres of the local Railway",
        "A Postgres on this machine could not be found, started or stopped; the message names its way out. \
         scripts/install-postgres.sh installs one; O7S_PG_BIN names another.";
}
