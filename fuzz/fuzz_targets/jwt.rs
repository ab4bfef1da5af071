//! Tokens and key sets.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ogelnates_fuzz::jwt(data));
