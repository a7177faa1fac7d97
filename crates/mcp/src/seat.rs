//! The place of one owner at one server: there is an instance in it while there are calls, started
//! anew when it has ended, later and later when it ends again and again.

use std::sync::Arc;
use std::time::Duration;

use netra_context::programs::Owner;
use netra_context::runtime::TaskKind;
use netra_context::{Runtime, Secret, UserExecutionContext};
use netra_protocol::error::{ErrorCode, Failure};
use netra_protocol::id::UserId;
use parking_lot::Mutex;
use rmcp::model::{ClientRequest, ServerResult};
use rmcp::service::ServiceError;
use tokio::time::Instant;

use crate::connection::ProgressTo;
use crate::content::failed;
use crate::ending::Why;
use crate::instance::Instance;
use crate::listening;
use crate::opened::Opened;
use crate::seats::{Place, Seats};
use crate::server::Server;
use crate::words;

/// After so many calls in a row that were not answered in time an instance is ended.
const MAX_HANGS: u32 = 3;
/// The longest time between two starts of what ends again and again.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// The least time that a call is given.
const LEAST: Duration = Duration::from_millis(1);
/// How long before the end of a call's own time it is given up, so that the reason is told.
const BEFORE_THE_END: Duration = Duration::from_millis(50);

/// How long after so many failures in a row nothing is started: at first not at all, then later and later.
fn pause_after(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        before => Duration::from_secs(1 << (before - 1).min(6)).min(MAX_PAUSE),
    }
}

/// The place of one owner at one server. Dropping it ends its instance.
pub(crate) struct Seat {
    pub(crate) server: Arc<Server>,
    /// None where it is everybody's.
    pub(crate) user: Option<UserId>,
    state: tokio::sync::Mutex<State>,
    usage: Mutex<Usage>,
}

#[derive(Default)]
struct State {
    seated: Option<(Arc<Instance>, Place)>,
    /// Not started before then, and why.
    waits: Option<(Instant, String)>,
}

struct Usage {
    calls: u32,
    /// Runs that have called it and have not ended.
    runs: u32,
    /// A run has begun to use it where none did.
    is_taken_up: bool,
    last: Instant,
    /// Calls in a row that were not answered in time.
    hangs: u32,
    /// How often in a row it could not be started, or has ended by itself.
    failures: u32,
}

impl Seat {
    pub(crate) fn new(server: Arc<Server>, user: Option<UserId>) -> Self {
        Self {
            server,
            user,
            state: tokio::sync::Mutex::default(),
            usage: Mutex::new(Usage {
                calls: 0,
                runs: 0,
                is_taken_up: false,
                last: Instant::now(),
                hangs: 0,
                failures: 0,
            }),
        }
    }

    /// Asks the instance, which is started where there is none.
    pub(crate) async fn ask(
        &self,
        ctx: &UserExecutionContext,
        seats: &Arc<Seats>,
        (opened, conceal): (&Opened, &(dyn Fn(&Secret) + Sync)),
        (request, progress): (ClientRequest, Option<ProgressTo>),
    ) -> Result<ServerResult, Failure> {
        let _busy = Busy::new(self);
        let instance = self.instance(ctx, seats, opened).await?;
        let is_first = || std::mem::take(&mut self.usage.lock().is_taken_up);
        instance.begin_use(is_first).await;
        instance.token().await.iter().for_each(conceal);
        let limit = self.limit(ctx);
        let answer = instance.connection.ask(request, progress);
        let answer = tokio::time::timeout(limit, answer).await;
        // It may be another one by now.
        instance.token().await.iter().for_each(conceal);
        match answer {
            Err(_) => Err(self.hung(&instance, limit).await),
            Ok(Err(error)) => Err(self.failed(&instance, &error).await),
            Ok(Ok(answer)) => {
                let mut usage = self.usage.lock();
                (usage.hangs, usage.failures) = (0, 0);
                Ok(answer)
            }
        }
    }

    fn limit(&self, ctx: &UserExecutionContext) -> Duration {
        let own = self.server.config.call;
        let left = ctx.deadline().map(|end| {
            let left = end.saturating_duration_since(Instant::now());
            left.saturating_sub(BEFORE_THE_END).max(LEAST)
        });
        left.map_or(own, |left| own.min(left))
    }

    async fn instance(
        &self,
        ctx: &UserExecutionContext,
        seats: &Arc<Seats>,
        opened: &Opened,
    ) -> Result<Arc<Instance>, Failure> {
        let mut state = self.state.lock().await;
        // One with a secret that is another now goes; calls that it has are answered first.
        if let Some((instance, place)) = state
            .seated
            .take_if(|(instance, _)| !instance.opened.is_same_as(opened))
        {
            drop(place);
            seats.stop(instance);
            state.waits = None;
        }
        if let Some((instance, _)) = &state.seated {
            if !instance.connection.is_closed() {
                return Ok(Arc::clone(instance));
            }
            let why = instance.why().await;
            self.fell(&mut state, &why);
        }
        if let Some((until, why)) = &state.waits {
            let left = until.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                let name = &self.server.name;
                let words = format!(
                    "the tool server {name} is started again in {} s: {why}",
                    left.as_secs() + 1
                );
                return Err(failed("server_away", words));
            }
        }
        let place = Seats::take_place(seats, self)?;
        let owner = self.user.and_then(|_| Owner::of(ctx));
        match self.server.start_for_calls(owner, opened).await {
            Ok(instance) => {
                let instance = Arc::new(instance);
                listening::begin(seats, self, &instance);
                state.seated = Some((Arc::clone(&instance), place));
                state.waits = None;
                Ok(instance)
            }
            Err(why) => {
                let words = format!(
                    "the tool server {} cannot be started: {why}",
                    self.server.name
                );
                self.pause(&mut state, why);
                Err(failed("server_away", words))
            }
        }
    }

    /// An instance has ended by itself.
    fn fell(&self, state: &mut State, why: &Why) {
        if state.seated.take().is_some() {
            self.server.crashed(why);
            self.pause(state, why.to_string());
        }
    }

    /// The first time it may be started again at once, then later and later.
    fn pause(&self, state: &mut State, why: String) {
        let mut usage = self.usage.lock();
        let pause = pause_after(usage.failures);
        usage.failures = usage.failures.saturating_add(1);
        state.waits = Some((Instant::now() + pause, why));
    }

    async fn hung(&self, instance: &Arc<Instance>, limit: Duration) -> Failure {
        let hangs = {
            let mut usage = self.usage.lock();
            usage.hangs += 1;
            usage.hangs
        };
        if hangs >= MAX_HANGS {
            self.usage.lock().hangs = 0;
            let why = Why::Hung(hangs);
            instance.note(why.clone());
            self.let_fall(instance, &why).await;
        }
        let words = format!(
            "the tool server {} did not answer within {} ms",
            self.server.name,
            limit.as_millis()
        );
        Failure::new(ErrorCode::ToolTimeout, words)
    }

    async fn failed(&self, instance: &Arc<Instance>, error: &ServiceError) -> Failure {
        let name = &self.server.name;
        if let ServiceError::McpError(error) = error {
            let words = netra_tools::cut_text(&error.message, 1024);
            return failed(
                "server_error",
                format!("the tool server {name} says: {words}"),
            );
        }
        let is_gone = matches!(error, ServiceError::TransportClosed);
        if !is_gone && !instance.connection.is_closed() {
            let words = netra_tools::cut_text(&words::of_question(error), 1024);
            return failed(
                "server_unreachable",
                format!("the tool server {name}: {words}"),
            );
        }
        let why = instance.why().await;
        self.let_fall(instance, &why).await;
        if let Why::Memory(_) | Why::Shortage(_) = why {
            let words = format!("the tool server {name} was ended: {why}");
            return Failure::new(ErrorCode::MemoryLimitExceeded, words);
        }
        failed(
            "server_ended",
            format!("the tool server {name} ended during the call: {why}"),
        )
    }

    /// Ends this instance, unless another one has taken its place already.
    async fn let_fall(&self, instance: &Arc<Instance>, why: &Why) {
        let mut state = self.state.lock().await;
        let same = |(seated, _): &(Arc<Instance>, Place)| Arc::ptr_eq(seated, instance);
        if state.seated.as_ref().is_some_and(same) {
            self.fell(&mut state, why);
        }
    }

    /// Whether nobody has called for so long.
    pub(crate) fn is_idle(&self, since: Duration) -> bool {
        let usage = self.usage.lock();
        usage.calls == 0 && usage.last.elapsed() >= since
    }

    /// When it was called last; none while a call is open.
    pub(crate) fn last_used(&self) -> Option<Instant> {
        let usage = self.usage.lock();
        (usage.calls == 0).then_some(usage.last)
    }

    /// The instance, once nobody is busy with its place.
    pub(crate) async fn seated(&self) -> Option<Arc<Instance>> {
        let state = self.state.lock().await;
        state.seated.as_ref().map(|(one, _)| Arc::clone(one))
    }

    /// Takes the instance out, where nobody is busy with it.
    pub(crate) fn vacate(&self) -> Option<(Arc<Instance>, Place)> {
        self.state.try_lock().ok()?.seated.take()
    }

    /// Whether there is an instance whose user holds more memory than allowed, and nobody is busy with its place.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.state.try_lock().ok();
        let seated = state.as_ref().and_then(|state| state.seated.as_ref());
        seated.is_some_and(|(instance, _)| instance.is_over())
    }
}

/// A run's stay at a seat that goes on when the run has ended. What the run has left there ends with it.
pub(crate) struct Stay {
    seat: Arc<Seat>,
    runtime: Runtime,
}

impl Stay {
    pub(crate) fn new(seat: &Arc<Seat>, runtime: &Runtime) -> Self {
        let mut usage = seat.usage.lock();
        usage.runs += 1;
        usage.is_taken_up |= usage.runs == 1;
        drop(usage);
        Self {
            seat: Arc::clone(seat),
            runtime: runtime.clone(),
        }
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let mut usage = self.seat.usage.lock();
        usage.runs -= 1;
        if usage.runs > 0 {
            return;
        }
        drop(usage);
        let seat = Arc::clone(&self.seat);
        self.runtime.spawn(TaskKind::Part, async move {
            if let Some(instance) = seat.seated().await {
                instance.end_use(|| seat.usage.lock().runs > 0).await;
            }
        });
    }
}

/// Counts a call while it is open.
struct Busy<'a>(&'a Seat);

impl<'a> Busy<'a> {
    fn new(seat: &'a Seat) -> Self {
        seat.usage.lock().calls += 1;
        Self(seat)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut usage = self.0.usage.lock();
        usage.calls -= 1;
        usage.last = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use futures::poll;
    use netra_protocol::tool::ToolServerScope;

    use super::*;
    use crate::scripted_tests::{NAME, server, sprout, user};

    /// A seat with an instance, which is a user's.
    async fn taken(runtime: &Runtime) -> (UserExecutionContext, Arc<Seats>, Arc<Seat>) {
        let (config, programs, _) = server(runtime, ToolServerScope::User);
        let server = Arc::new(Server::new(runtime, NAME.into(), config, programs));
        let seats = Arc::new(Seats::new(runtime, 8, 8));
        let ctx = user(runtime);
        let seat = seats.of(&server, ctx.user_id());
        sprout(&ctx, &seats, &seat).await;
        (ctx, seats, seat)
    }

    #[test]
    fn what_ends_again_and_again_is_started_later_and_later_and_at_least_once_a_minute() {
        let pauses = [0, 1, 2, 3, 4, 5, 6, 7, 8, u32::MAX];
        let pauses = pauses.map(|failures| pause_after(failures).as_secs());
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[tokio::test]
    async fn an_instance_is_seen_while_a_call_begins() {
        let (_, _, seat) = taken(&Runtime::new()).await;
        let busy = seat.state.lock().await;
        let mut seen = std::pin::pin!(seat.seated());
        assert!(poll!(&mut seen).is_pending());
        drop(busy);
        assert!(seen.await.is_some());
    }

    /// Where two runs began at once, the second could be at work when what was there before the first was ended, and
    /// the second's programs with it.
    #[tokio::test]
    async fn who_is_first_at_an_instance_is_known_when_nobody_else_is_at_it() {
        let runtime = Runtime::new();
        let (ctx, seats, seat) = taken(&runtime).await;
        let _stay = Stay::new(&seat, &runtime);
        let instance = seat.seated().await.unwrap();
        let at_it = instance.kept.lock().await;
        let mut call = std::pin::pin!(sprout(&ctx, &seats, &seat));
        assert!(poll!(&mut call).is_pending());
        assert!(seat.usage.lock().is_taken_up, "it is not there yet");
        drop(at_it);
        call.await;
        assert!(!seat.usage.lock().is_taken_up);
    }
}
