//! One binary: claims fed with altered observations, and networks of real processes.

mod bad_input;
mod claims;
mod network;
mod pages;
mod tamper;
