//! `completion`: what a shell needs to complete the command line.

use anyhow::{Context, Result};
use clap_complete::{Shell, generate};

use crate::cli::{self, CompletionShell};

/// The script for a shell, for the program's name on disk.
pub(super) fn script(shell: CompletionShell) -> Result<String> {
    let shell = match shell {
        CompletionShell::Bash => Shell::Bash,
        CompletionShell::Zsh => Shell::Zsh,
        CompletionShell::Fish => Shell::Fish,
    };
    let name = if cli::is_plugin() { cli::PLUGIN } else { cli::PROGRAM };
    let mut script = Vec::new();
    generate(shell, &mut cli::command(false), name, &mut script);
    String::from_utf8(script).context("writing a completion script")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_a_script_that_knows_every_command() {
        for shell in [CompletionShell::Bash, CompletionShell::Zsh, CompletionShell::Fish] {
            let script = script(shell).unwrap();
            for command in cli::command(false).get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell:?} {}", command.get_name());
            }
        }
    }
}
