//! Numbers of what can go wrong with the control database.

use crate::tenancy::codes;

codes! {
    BadUrl = 5001, "not a URL of a Postgres database",
        "O7S_DATABASE_URL must be a postgresql:// URL with host, user, password and database. Correct it, or unset it: \
         then it is found through Railway.";
    NotListening = 5002, "the control database does not answer",
        "Refused, unknown host, no answer in time, or not started up yet. Look at the service `o7s-control` on Railway; \
         `o7s bootstrap` makes or repairs it.";
    WrongPassword = 5003, "the control database refuses the password",
        "The password is derived from the key the fleet was made with. Check O7S_MASTER_KEY and O7S_DATABASE_URL.";
    NotEncrypted = 5004, "the control database offers no encryption",
        "The connection would go over the network in the clear. Switch the server's TLS on, or add ?sslmode=disable to \
         O7S_DATABASE_URL where the network is private.";
    NotBootstrapped = 5005, "the control database is empty",
        "The server answers and holds nothing of o7s. Run `o7s bootstrap`; what instances hold is found again by their \
         marks.";
    OlderSchema = 5006, "the control database is behind this o7s",
        "It was last used by an earlier version. Run `o7s bootstrap`, which brings it up to date.";
    NewerSchema = 5007, "the control database is ahead of this o7s",
        "A later version changed it, and this one would misread it. Use that version, or a later one.";
    LeaseHeld = 5008, "another run is at work",
        "One run at a time may write, and another holds the lease; the message says who and since when. Wait for it, or \
         raise --lock-timeout.";
    StaleEpoch = 5009, "another run has taken over",
        "Another run took the lease meanwhile, so this one may not write any more. Run again; what was done is found, \
         and nothing is done twice.";
    LeaseLost = 5010, "the lease was lost",
        "The connection that held the lease is gone, and the lease with it. Run again; what was done is found, and \
         nothing is done twice.";
    Sql = 5011, "the control database refuses a statement",
        "The message holds the server's own words. Run again; if it stays, they tell what is wrong.";
    Migrate = 5012, "the control database cannot be brought up to date",
        "Nothing was changed. The message holds the server's own words, most often about a missing right or a full \
         disk.";
    Unreadable = 5013, "a row that cannot be read",
        "The control database holds what no o7s of this version writes: somebody changed it by hand, or a later version \
         did. Put it back, or use that version.";
}
