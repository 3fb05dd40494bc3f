//! The builder.

use std::process::ExitCode;

fn main() -> ExitCode {
    rolecast::cli::main()
}
