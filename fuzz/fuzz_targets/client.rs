//! A client's messages.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ogelnates_fuzz::client(data));
