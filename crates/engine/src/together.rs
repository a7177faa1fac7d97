//! Several operations of an agent side by side, in its own task.

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use netra_tools::Rest;

use crate::execution::Fault;

/// The most operations of one agent that are at work at once; the others come after.
const MAX_AT_ONCE: usize = 8;

/// Lets all of them work and gives what they gave, in their order.
///
/// # Errors
/// A fault ends the others where they are: make an answer of what they can live with. `Waiting` comes
/// when all that was begun is done, or wants to ask a person too.
pub(crate) async fn together<T>(
    rest: &Rest,
    parts: Vec<impl Future<Output = Result<T, Fault>>>,
) -> Result<Vec<T>, Fault> {
    let mut results: Vec<Option<T>> = parts.iter().map(|_| None).collect();
    let numbered = |(index, part)| async move { (index, part.await) };
    let mut later = parts.into_iter().enumerate().map(numbered);
    // Dropped after those at work, which may rest.
    let mut lent = Lent {
        rest,
        parts: MAX_AT_ONCE.min(results.len()),
    };
    if !rest.begun(lent.parts.saturating_sub(1)) {
        lent.parts = 0;
        return Err(Fault::Waiting);
    }
    let mut at_work: FuturesUnordered<_> = later.by_ref().take(MAX_AT_ONCE).collect();
    let mut waiting = false;
    while let Some((index, outcome)) = at_work.next().await {
        match outcome {
            Ok(result) => results[index] = Some(result),
            // It rests already, and so does all the rest.
            Err(Fault::Waiting) => {
                waiting = true;
                lent.parts -= 1;
                continue;
            }
            Err(fault) => return Err(fault),
        }
        match later.next() {
            Some(next) => at_work.push(next),
            // Where it was the last one, the agent goes on itself.
            None if at_work.is_empty() => {}
            None => lent.give_back(1),
        }
    }
    if waiting {
        return Err(Fault::Waiting);
    }
    Ok(results.into_iter().flatten().collect())
}

/// The parts of a run that an agent has at work in its place. Dropped, one is left: the agent itself.
struct Lent<'a> {
    rest: &'a Rest,
    parts: usize,
}

impl Lent<'_> {
    fn give_back(&mut self, parts: usize) {
        self.parts -= parts;
        self.rest.ended(parts);
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.give_back(self.parts.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use futures::{FutureExt as _, future};
    use netra_protocol::ErrorCode;

    use super::*;

    #[tokio::test]
    async fn results_come_in_the_order_of_the_parts_and_not_of_their_ends() {
        let (late, wait) = tokio::sync::oneshot::channel();
        let parts = vec![
            async move { Ok(wait.await.unwrap()) }.boxed(),
            async move {
                late.send(1).unwrap();
                Ok(2)
            }
            .boxed(),
        ];
        assert_eq!(together(&Rest::default(), parts).await, Ok(vec![1, 2]));
    }

    #[tokio::test]
    async fn no_more_than_a_few_are_at_work_at_once() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let part = |_| async {
            most.fetch_max(now.fetch_add(1, Relaxed) + 1, Relaxed);
            tokio::task::yield_now().await;
            now.fetch_sub(1, Relaxed);
            Ok(())
        };
        let parts: Vec<_> = (0..100).map(part).collect();
        assert_eq!(together(&Rest::default(), parts).await.unwrap().len(), 100);
        assert_eq!(most.load(Relaxed), MAX_AT_ONCE);
    }

    #[tokio::test]
    async fn a_fault_ends_the_others() {
        let fault = Fault::agent(ErrorCode::AgentFailed, "no");
        let failing = future::ready(Err::<(), _>(fault.clone())).boxed();
        let parts = vec![future::pending().boxed(), failing];
        assert_eq!(together(&Rest::default(), parts).await, Err(fault));
    }
}
