//! Logins over real sockets: what a client that behaves, and one that does not, gets to see.
