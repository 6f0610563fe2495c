//! What tests of several modules share.
//!
//! Responsible for: good input, spoilt in ways that find faults of parsers ([`mutation`]).
//! Not responsible for: what a module has to make of it; its own tests say so.

pub(crate) mod mutation;
