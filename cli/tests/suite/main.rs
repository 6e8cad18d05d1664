//! The `assent` program, run as its users run it.

mod asks;
mod audit;
mod bad_input;
mod break_glass;
mod chain;
mod checkpoint;
mod compare;
mod consent;
mod consents;
mod decisions;
mod evidence;
mod follow;
mod governance;
mod grant;
mod keys;
mod node;
mod pack;
mod program;
mod proof;
mod published;
mod receipt;
mod recovery;
mod usage;
mod verify;
mod wallet;
