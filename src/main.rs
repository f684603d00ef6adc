//! Passes the command line to the library and exits with its exit code.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    customer_import::cli::main(std::env::args_os())
}
