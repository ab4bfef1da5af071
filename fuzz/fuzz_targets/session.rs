//! Client and server, round by round.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ogelnates_fuzz::session(data));
