//! Programs and templates of a topology: VRL over fields and metadata, paths with placeholders.
//!
//! Responsible for: compiling programs for a purpose and refusing what that purpose must not do,
//! running them over records without copying trees, the metadata that programs and templates see,
//! JSON to trees and back, and rendering paths whose values stay within one component.
//! Not responsible for: where a program comes from and how its errors are shown (`topology`), or
//! what its result leads to (the nodes).
//!
//! The language is the Vector Remap Language (the `vrl` crate). It has neither loops without end
//! nor recursion, so a program ends; what it may call is decided in `expr::functions`.

pub mod diagnostic;
pub mod evaluator;
pub mod fields;
mod functions;
pub mod metadata;
pub mod program;
pub mod template;

pub use diagnostic::CompileError;
pub use evaluator::Evaluator;
pub use metadata::{MetadataUse, metadata_of};
pub use program::{PREDICATE_FIELDS, Program, Purpose, Scratch, Target};
pub use template::{BoundTemplate, Template};

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;
