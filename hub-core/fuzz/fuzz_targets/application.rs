//! See `hub_core::testing::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hub_core::testing::fuzz::application(data));
