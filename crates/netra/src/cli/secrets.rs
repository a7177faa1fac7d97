//! `netra secrets`: the key that users' secrets are sealed with. Beside a server too.

use clap::Subcommand;

use super::{Folder, output};
use crate::accounts::Accounts;
use crate::exit::{Exit, Problem};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new key, encrypt all secrets with it, and forget the old ones.
    #[command(
        after_help = "A running server goes on: it reads the key file anew. One that breaks off is finished by the \
        next. The file is `secret-keys` in the data folder, or `secrets.key_file`.\n\n\
        Examples:\n  netra secrets rotate --data ./netra-data"
    )]
    Rotate {
        #[command(flatten)]
        folder: Folder,
        /// Delete secrets whose key was lost; otherwise they are an error.
        #[arg(long)]
        give_up_lost: bool,
    },
}

pub(super) async fn secrets(args: Args) -> Result<Exit, Problem> {
    let Command::Rotate {
        folder,
        give_up_lost,
    } = args.command;
    let accounts = Accounts::open(&folder.load()?)?;
    let (sealed, deleted) = accounts.rotate_secret_keys(give_up_lost).await?;
    output::note(match deleted {
        0 => format!("a new key is in force; {sealed} secrets were encrypted with it"),
        _ => format!(
            "a new key is in force; {sealed} secrets were encrypted with it, {deleted} were given up"
        ),
    });
    Ok(Exit::Success)
}
