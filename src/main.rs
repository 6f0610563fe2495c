//! The `tidemill` binary: parses the command line and turns its end into an exit code.
//!
//! Responsible for: nothing beyond that; see `cli`.
//! Not responsible for: everything else.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidemill::cli::main()
}
