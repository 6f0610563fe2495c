//! Completion: what is known of manifests, and what happens when one is complete.
//!
//! Responsible for: the settings of manifests, receipts and actions.
//! Not responsible for: the rules of membership (`progress::manifest`).

pub mod config;
