//! `netra token`: an access token made with the folder's key.

use std::time::Duration;

use netra_context::duration;

use super::{Folder, output};
use crate::accounts::Accounts;
use crate::exit::{Exit, Problem};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  netra token ada --data ./netra-data --ttl 8h\n  \
    curl -H \"Authorization: Bearer $(netra token ada)\" http://127.0.0.1:8080/api/auth/me"
)]
pub(super) struct Args {
    /// The account's name.
    name: String,
    #[command(flatten)]
    folder: Folder,
    /// Life of the token, such as 15m, 1h or 7d.
    #[arg(long, default_value = "1h", value_parser = duration::parse)]
    ttl: Duration,
}

pub(super) async fn token(args: Args) -> Result<Exit, Problem> {
    let accounts = Accounts::open(&args.folder.load()?)?;
    let Some(user) = accounts.find(&args.name).await? else {
        return Err(Problem::message(
            Exit::Failure,
            format!(
                "there is no user `{}`: `netra user add {}` makes one",
                args.name, args.name
            ),
        ));
    };
    let token = accounts.token(&user, args.ttl)?;
    output::line(token)?;
    Ok(Exit::Success)
}
