//! One counter shared by processes, under each lock; `-- --help` tells what can be chosen.

use std::process::ExitCode;

fn main() -> ExitCode {
    shm_benches::counter::main()
}
