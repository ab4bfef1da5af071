//! Numbers of what can go wrong with Railway.

use crate::tenancy::codes;

codes! {
    BadEndpoint = 4001, "not the address of Railway's API",
        "The address does not lead to Railway's API. Set O7S_RAILWAY_URL to the full URL, as in \
         https://backboard.railway.com/graphql/v2, or unset it.";
    Unauthorized = 4002, "the token may not do that",
        "Railway answered `Not Authorized`, which is also its word for what it cannot find, so nothing is taken for \
         deleted. Check that the token is complete, not revoked, and has a right to this project.";
    TokenElsewhere = 4003, "a token for another environment",
        "A project token is bound to one environment, and this one to another than the manifests name. Use a token of \
         that environment, or correct `spec.railway` of the Fleet.";
    RateLimited = 4004, "Railway's rate limit is spent",
        "Railway allows so many requests an hour by plan, and they are used up. Run again when the time shown has \
         passed; a larger plan has a larger limit.";
    EdgeBlock = 4005, "turned away before Railway's API",
        "The proxy in front of Railway's API answered in its place, so nothing was carried out. Run again when the time \
         shown has passed; if it stays, look whether a firewall or proxy stands before O7S_RAILWAY_URL.";
    PlanLimit = 4006, "Railway's plan allows no more",
        "The workspace's plan has a limit that was reached. Delete what is not needed any more, or raise the plan.";
    NameTaken = 4007, "the name is taken on Railway",
        "Something else in the project has that name. Look who; rename it there, or here.";
    NotFound = 4008, "Railway does not find it",
        "It is gone, or was made so recently that Railway does not see it yet, which can take half a minute. Run again.";
    TooQuickly = 4009, "Railway asks for a pause",
        "Railway limits how fast volumes and projects are made. Nothing is to be repaired: run again in a minute.";
    Refused = 4010, "Railway refused",
        "Railway did not carry out the operation and gave the reason shown. If that does not say why, ask Railway's \
         support with the trace id.";
    Lost = 4011, "the answer was lost",
        "A change was sent and its answer did not arrive: it may have been carried out. Run again; the next run looks \
         what became of it and doubles nothing.";
    Unreachable = 4012, "Railway does not answer",
        "No connection to Railway's API, or no answer in time. Check the network and O7S_RAILWAY_URL, then run again.";
    BadAnswer = 4013, "an answer that cannot be read",
        "The answer is not what Railway's schema promises. Check that O7S_RAILWAY_URL ends in /graphql/v2; if it does, \
         the schema has changed and o7s must follow: use a later version.";
    Incomplete = 4014, "an incomplete answer",
        "Part of the answer is missing, so nothing was concluded from what is not in it. Run again.";
    ShareSpent = 4015, "o7s has used its share of the requests",
        "A token's hourly requests are shared with people and other tools, so o7s keeps to a part of them, and that part \
         is used up. Run again when the time shown has passed.";
}
