//! A user's log as every client sees it, over the public contract. It goes on while it is read:
//! runs end, pieces are folded, threads go. So nothing is told that a second look does not show.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use netra_client::{Backoff, Client, Error, Feed, LogRange, Socket};
use netra_protocol::ErrorCode;
use netra_protocol::frame::{After, Subscribe};
use netra_protocol::id::{RunId, ThreadId};
use netra_protocol::run::RunStatus;

use super::super::judge::{Finding, Judge};
use super::Report;
use crate::exit::{Exit, Problem};

/// Runs in one answer.
const PAGE: u32 = 100;
/// Behind the end of every log.
const BEYOND: u64 = 1 << 40;

/// What to look at again: runs by their threads.
type Suspects = BTreeMap<ThreadId, BTreeSet<RunId>>;

/// Checks the log of the user whose client this is.
pub(super) async fn check(client: &Client) -> Result<Report, Problem> {
    let user = client.me().await?.name;
    let (log, judge) = read(client, &user, None).await?;
    let suspects = suspects(client, &judge, &log).await?;
    let mut report = Report {
        users: 1,
        runs: judge.runs().len() as u64,
        events: judge.read(),
        ..Report::default()
    };
    for (thread, runs) in suspects {
        let mut findings = second_look(client, &user, thread, &runs).await?;
        report.findings.append(&mut findings);
    }
    Ok(report)
}

/// Reads the log, or what it holds of a thread, to where it ends at this moment.
async fn read(
    client: &Client,
    user: &str,
    thread: Option<ThreadId>,
) -> Result<(LogRange, Judge), Problem> {
    let log = range(client).await?;
    let wish = Subscribe {
        threads: thread.map(|thread| vec![thread]),
        ..from(0, &log.epoch)
    };
    let mut feed = Box::pin(Feed::open(client, wish)).await?;
    let mut judge = Judge::new(user);
    while let Some(received) = feed.next_until(log.latest_seq).await? {
        // Retention takes the beginning of a log, and of runs with it; which ones is not told.
        judge.take(
            received.event.seq,
            &received.event.event,
            log.oldest_seq > 1,
        );
    }
    Ok((log, judge))
}

fn from(seq: u64, epoch: &str) -> Subscribe {
    Subscribe {
        after: After::Seq(seq),
        epoch: Some(epoch.to_owned()),
        threads: None,
        deltas: true,
    }
}

/// What the log holds: the answer to who asks for what is not there.
async fn range(client: &Client) -> Result<LogRange, Problem> {
    let mut socket = Box::pin(Socket::connect(client)).await?;
    let wish = from(BEYOND, &socket.ready().epoch);
    match socket.subscribe(wish).await {
        Err(Error::CursorExpired { log, .. }) => Ok(log),
        Err(error) => Err(error.into()),
        Ok(_) => Err(Problem::message(
            Exit::Failure,
            format!("the server's log has more than {BEYOND} numbers"),
        )),
    }
}

/// Runs that are broken or do not end as they should, and those that the server does not list.
async fn suspects(client: &Client, judge: &Judge, log: &LogRange) -> Result<Suspects, Problem> {
    let mut suspects = Suspects::new();
    let mut suspect = |thread, run| suspects.entry(thread).or_default().insert(run);
    let mut listed = HashSet::new();
    let mut cursor = None;
    loop {
        let page = patiently(|| client.runs(Some(PAGE), cursor.as_deref())).await?;
        for run in page.items {
            listed.insert(run.id);
            let gone = log.oldest_seq > 1;
            if judge.problem_at_end(run.id, run.status, gone).is_some() {
                suspect(run.thread_id, run.id);
            }
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    let unlisted = judge.runs().filter(|(run, _)| !listed.contains(run));
    for (run, thread) in judge.found().chain(unlisted) {
        suspect(thread, run);
    }
    Ok(suspects)
}

/// What is still wrong with these runs of a thread.
async fn second_look(
    client: &Client,
    user: &str,
    thread: ThreadId,
    runs: &BTreeSet<RunId>,
) -> Result<Vec<Finding>, Problem> {
    let mut before = Vec::new();
    for run in runs {
        before.push((*run, status(client, *run).await?));
    }
    let (log, mut judge) = read(client, user, Some(thread)).await?;
    for (run, before) in before {
        let ended = judge.end_of(run).is_some();
        match (before, status(client, run).await?) {
            // It may have ended before its events were read, or after.
            (Some(before), Some(now)) => {
                let status = if ended { now } else { before };
                judge.judge_end(run, status, log.oldest_seq > 1);
            }
            (None, None) => judge.judge_stranger(run),
            // It was deleted meanwhile.
            (Some(_), None) | (None, Some(_)) => {}
        }
    }
    let findings = judge.into_findings().into_iter();
    let of_these = |finding: &Finding| finding.run.is_some_and(|run| runs.contains(&run));
    Ok(findings.filter(of_these).collect())
}

/// Where a run stands; none when it is not there.
async fn status(client: &Client, run: RunId) -> Result<Option<RunStatus>, Problem> {
    match patiently(|| client.run(run)).await {
        Ok(run) => Ok(Some(run.status)),
        Err(error) if error.code() == Some(ErrorCode::NotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Asks again while the server is away or wants fewer requests.
async fn patiently<T, F>(ask: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut backoff = Backoff::default();
    loop {
        match ask().await {
            Err(error) if error.is_passing() => backoff.pause(error).await?,
            answered => return answered,
        }
    }
}
