//! The first packets of a connection.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ogelnates_fuzz::startup(data));
