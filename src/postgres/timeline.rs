//! Which of two servers was promoted last.

/// To be run by anybody, on a server that takes writes. One column: see [`timeline_from`].
pub const TIMELINE: &str = "SELECT pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn())";

/// Of the name of a file of the write-ahead log; it is higher after each promotion.
pub fn timeline_from(file: &str) -> Option<u32> {
    u32::from_str_radix(file.get(..8)?, 16).ok()
}
