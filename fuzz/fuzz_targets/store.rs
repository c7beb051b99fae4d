//! See `fuzz::store_records`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::store_records::run(data));
