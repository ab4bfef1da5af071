//! Numbers of what can go wrong with an instance's server.

use crate::tenancy::codes;

codes! {
    NotListening = 6001, "an instance does not answer",
        "Nothing answers at the instance's address. Look at its deployment on Railway, then run again.";
    WrongPassword = 6002, "an instance refuses the derived password",
        "Somebody changed the password of `postgres`, or O7S_MASTER_KEY is not the one the instance was made with. \
         Check the key, or put the derived password back.";
    NotEncrypted = 6003, "an instance offers no encryption",
        "The connection would go over the network in the clear. Use the image of the pool's manifest, which offers TLS.";
    TooOld = 6004, "an instance's Postgres is too old",
        "Postgres 15 is the oldest that keeps tenants apart by default. Use a later image in the pool's manifest.";
    Foreign = 6005, "a role or database of another owner",
        "It has a name o7s needs and does not carry our mark, so it is left alone. Drop or rename it by hand, or name \
         the tenant otherwise.";
    Missing = 6006, "a role or database is gone",
        "Somebody removed it between the look and the change. Run again: it is made again where it is still wanted.";
    Sql = 6007, "an instance refuses a statement",
        "The message holds the server's own words. Run again; if it stays, they tell what holds it.";
    Unreadable = 6008, "an instance's answer cannot be read",
        "The server answered something o7s does not understand. Run again; if it stays, report it with the version of \
         the server.";
    Taken = 6009, "a name that a rename gives is taken",
        "Something on the instance has a database's or role's name that the renamed tenant would get, so nothing was \
         closed, and what was begun is undone: the tenant goes on under its former name. Drop or rename what is in the way by hand, or choose another name.";
}
