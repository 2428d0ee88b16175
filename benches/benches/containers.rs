//! Lists, containers inside of others and transactions, beside dictionaries; `-- --help` tells what can be chosen.

use std::process::ExitCode;

use shm_benches::suite::{self, Suite};

fn main() -> ExitCode {
    suite::main(Suite::Containers)
}
