#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| assent_fuzz::laws::decisions(input));
