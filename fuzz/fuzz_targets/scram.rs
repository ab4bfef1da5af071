//! SCRAM and the logins around it.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ogelnates_fuzz::scram(data));
