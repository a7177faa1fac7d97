//! `netra isolation`: who holds what on a server, and what must be nothing there.

use netra_client::Client;
use netra_protocol::account::Role;
use netra_protocol::isolation::{Isolation, Slots, UserHoldings};

use super::connection::{Source, Whereabouts, no_folder};
use super::output;
use crate::accounts::Accounts;
use crate::config::Config;
use crate::exit::{Exit, Problem};

#[derive(Debug, clap::Args)]
#[command(after_help = "Ends with 1 when a counter that must be 0 is not.\n\n\
    Examples:\n  netra isolation --data ./netra-data\n  \
    netra isolation --server https://netra.example --token \"$TOKEN\" --json")]
pub(super) struct Args {
    #[command(flatten)]
    source: Source,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn isolation(args: Args) -> Result<Exit, Problem> {
    let seen = client(&args.source).await?.isolation().await?;
    if args.json {
        output::json(&seen)?;
    } else {
        output::line(output::table(&users(&seen)))?;
        output::line("")?;
        output::line(node(&seen))?;
        output::line(must_be_zero(&seen))?;
    }
    let broken = seen
        .must_be_zero
        .named()
        .iter()
        .any(|(_, count)| *count > 0);
    Ok(if broken { Exit::Failure } else { Exit::Success })
}

/// The server that was named, or the one of the folder, asked as an admin of it.
pub(super) async fn client(source: &Source) -> Result<Client, Problem> {
    if let Some(client) = source.named()? {
        return Ok(client);
    }
    let config = source.config()?;
    let user = admin(&config).await?;
    let folder = config.data.display().to_string();
    let config = Box::new(config);
    let client = Whereabouts::Folder { config, user }.look().await?;
    client.ok_or_else(|| {
        let words = format!("no server runs on {folder}: `netra serve` starts one");
        Problem::message(Exit::Failure, words)
    })
}

async fn admin(config: &Config) -> Result<String, Problem> {
    // Looking at a folder makes none.
    if !config.has_database() {
        return Err(no_folder(&config.data));
    }
    let users = Accounts::open(config)?.all().await?;
    let mut admins = users.into_iter().filter(|user| user.role == Role::Admin);
    let admin = admins.find(|user| !user.disabled);
    admin.map(|user| user.name).ok_or_else(|| {
        let words = "the folder has no admin: `netra user add NAME --role admin` makes one";
        Problem::message(Exit::Failure, words)
    })
}

fn users(seen: &Isolation) -> Vec<Vec<String>> {
    let head = [
        "USER",
        "RUNNING",
        "QUEUED",
        "WAITING",
        "HEAP",
        "WORKERS",
        "PROGRAMS",
        "PEAK",
        "LIMIT",
        "SOCKETS",
        "STREAMS",
        "LIMITS HIT",
    ];
    let head = head.map(str::to_owned).to_vec();
    std::iter::once(head)
        .chain(seen.users.iter().map(user))
        .collect()
}

fn user(user: &UserHoldings) -> Vec<String> {
    let memory = user.memory.as_ref();
    let workers = match (user.workers, memory.map_or(0, |memory| memory.worker_bytes)) {
        (0, 0) => "0".to_owned(),
        (count, held) => format!("{count} ({})", bytes(held)),
    };
    let hits = user.limits_hit.iter();
    let hits: Vec<String> = hits
        .map(|(limit, times)| format!("{limit}×{times}"))
        .collect();
    let or_dash = |held: Option<u64>| held.map_or_else(|| "-".to_owned(), bytes);
    vec![
        user.name
            .clone()
            .unwrap_or_else(|| user.user_id.to_string()),
        of_allowed(&user.slots),
        user.slots.queued.to_string(),
        user.slots.waiting.to_string(),
        or_dash(memory.and_then(|memory| memory.heap_bytes)),
        workers,
        bytes(memory.map_or(0, |memory| memory.program_bytes)),
        or_dash(memory.and_then(|memory| memory.peak_bytes)),
        or_dash(memory.map(|memory| memory.limit_bytes)),
        user.sockets.to_string(),
        user.streams.to_string(),
        hits.join(" "),
    ]
}

fn of_allowed(slots: &Slots) -> String {
    format!("{}/{}", slots.running, slots.allowed)
}

fn node(seen: &Isolation) -> String {
    let node = &seen.node;
    let heap = node.heap_bytes.map_or_else(
        || "not counted".to_owned(),
        |held| {
            let system = node.system_bytes.unwrap_or(0);
            format!("{}, {} of it nobody's", bytes(held), bytes(system))
        },
    );
    format!(
        "node: {} running, {} queued, {} waiting; heap {heap}; programs {}; {} workers, {} connections, {} tasks",
        of_allowed(&node.slots),
        node.slots.queued,
        node.slots.waiting,
        bytes(node.program_bytes),
        node.workers,
        node.connections,
        node.tasks,
    )
}

fn must_be_zero(seen: &Isolation) -> String {
    let counters = seen
        .must_be_zero
        .named()
        .map(|(name, count)| format!("{name} {count}"));
    format!("must be zero: {}", counters.join(", "))
}

/// In the largest unit in which it is at least 1.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let unit = (count.max(1).ilog2() / 10).min(3);
    let in_unit = count as f64 / f64::from(1_u32 << (10 * unit));
    match unit {
        0 => format!("{count} B"),
        _ => format!("{in_unit:.1} {}", UNITS[unit as usize]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_a_unit_that_can_be_read() {
        let shown = [0, 1023, 1024, 1 << 20, 5 * (1 << 30) / 2, 1 << 43].map(bytes);
        let expected = [
            "0 B",
            "1023 B",
            "1.0 KiB",
            "1.0 MiB",
            "2.5 GiB",
            "8192.0 GiB",
        ];
        assert_eq!(shown, expected);
    }
}
