//! `lookout`: sees every process of the containers that lookout runs. See [`lookout::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    lookout::cli::run(std::env::args_os()).into()
}
