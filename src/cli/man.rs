//! `lookout man`: manual pages, generated from the same definitions as the help texts.

use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use super::{
    args::Cli,
    exit::{Exit, Failure},
    output::Output,
};

/// Prints the manual page of `lookout`, or writes the pages of all commands to a directory.
pub(super) fn run(directory: Option<&Path>, out: &mut Output) -> Result<Exit, Failure> {
    let mut command = Cli::command();
    command.build();
    let Some(directory) = directory else {
        out.write(&manual_page(command)?)?;
        return Ok(Exit::Ok);
    };
    let failed = |error| {
        Failure::Other(
            anyhow::Error::new(error)
                .context(format!("failed to write the manual pages to {}", directory.display())),
        )
    };
    std::fs::create_dir_all(directory).map_err(failed)?;
    for command in std::iter::once(command.clone()).chain(command.get_subcommands().cloned()) {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
        std::fs::write(directory.join(format!("{name}.1")), manual_page(command)?)
            .map_err(failed)?;
    }
    Ok(Exit::Ok)
}

fn manual_page(command: Command) -> Result<String, Failure> {
    let mut text = Vec::new();
    Man::new(command).render(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
