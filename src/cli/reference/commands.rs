//! Generates docs/reference/cli.md, from the same definitions as the help texts.

use clap::{Arg, Command, CommandFactory as _};

use super::{as_code, markdown_table, one_line, page_head};
use crate::cli::{args::Cli, exit::Exit};

pub(super) fn page() -> String {
    let mut cli = Cli::command();
    cli.build();
    let statuses =
        Exit::STATUS_DOCS.iter().map(|(code, doc)| [code.to_string(), (*doc).to_owned()]);
    let mut page = page_head("The command line")
        + "What the commands print is in [the command](../cli.md) and [the daemon](../daemon.md).\n\
           Every command also takes `--help`, and `--config FILE`: the configuration file instead \
           of\n\
           `/etc/lookout/config.toml`. A file with a mistake is refused by \
           every command, with status 2.\n\n\
           ## Exit status\n\n"
        + &markdown_table(["status", "meaning"], statuses);
    for command in cli.get_subcommands() {
        command_section(command, &mut page);
    }
    page
}

fn command_section(command: &Command, page: &mut String) {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string);
    page.push_str(&format!("\n## {name}\n\n{}\n", with_full_stop(&about.unwrap_or_default())));
    let arguments: Vec<&Arg> =
        command.get_arguments().filter(|it| it.get_id() != "help" && !it.is_global_set()).collect();
    if !arguments.is_empty() {
        let rows = arguments
            .into_iter()
            .map(|argument| [argument_usage(argument), argument_meaning(argument)]);
        page.push_str(&format!("\n{}", markdown_table(["argument", "meaning"], rows)));
    }
    // `cli.build()` adds a command `help` to every command with subcommands.
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        command_section(inner, page);
    }
}

/// Ends a text with a full stop, because clap removes the full stop of a short help text.
fn with_full_stop(text: &str) -> String {
    let text = text.trim_end();
    if text.ends_with('.') { text.to_owned() } else { format!("{text}.") }
}

/// How an argument is written: `-o, --output FORMAT`, `PID…`.
fn argument_usage(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default().join(" ");
    if argument.is_positional() {
        let many = argument.get_num_args().is_some_and(|count| count.max_values() > 1);
        return as_code(&format!("{names}{}", if many { "…" } else { "" }));
    }
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let flags: Vec<String> = short.into_iter().chain(long).collect();
    let takes_value = argument.get_action().takes_values();
    let value = if takes_value { format!(" {names}") } else { String::new() };
    as_code(&format!("{}{value}", flags.join(", ")))
}

fn argument_meaning(argument: &Arg) -> String {
    let help = argument.get_long_help().or(argument.get_help());
    let mut text = with_full_stop(&one_line(&help.map(ToString::to_string).unwrap_or_default()));
    let values: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|_| argument.get_action().takes_values())
        .map(|value| as_code(value.get_name()))
        .collect();
    if !values.is_empty() {
        text.push_str(&format!(" Values: {}.", values.join(", ")));
    }
    let defaults = argument.get_default_values().iter().filter_map(|value| value.to_str());
    if let Some(default) = defaults.filter(|value| !value.is_empty()).map(as_code).next()
        && argument.get_action().takes_values()
    {
        text.push_str(&format!(" Default: {default}."));
    }
    text
}
