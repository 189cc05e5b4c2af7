//! `lookout man`: pages made of the same definitions as the help.

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use super::args::ManArgs;
use crate::cli::{
    args::Cli,
    exit::{Exit, Failure},
    output::Output,
};

/// The page of `lookout`, or the pages of all commands into a folder.
pub(in crate::cli) fn man(args: &ManArgs, out: &mut Output) -> Result<Exit, Failure> {
    let mut command = Cli::command();
    command.build();
    let Some(folder) = &args.folder else {
        out.write(&page(command)?)?;
        return Ok(Exit::Ok);
    };
    let failed = |error| {
        Failure::Other(
            anyhow::Error::new(error)
                .context(format!("failed to write pages to {}", folder.display())),
        )
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    for command in std::iter::once(command.clone()).chain(command.get_subcommands().cloned()) {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
        std::fs::write(folder.join(format!("{name}.1")), page(command)?).map_err(failed)?;
    }
    Ok(Exit::Ok)
}

fn page(command: Command) -> Result<String, Failure> {
    let mut text = Vec::new();
    Man::new(command).render(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
