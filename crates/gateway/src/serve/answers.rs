//! Answers over HTTP/2: a client that takes no more of one loses it, and keeps its connection and the others.
//!
//! Over HTTP/1 a client that takes nothing stops the connection, which breaks by itself. Over HTTP/2 it can leave a
//! stream without room and go on talking; what was to be sent would wait for as long as it does. So the task of each
//! stream is looked at whenever it has nothing to do: is it the answer that has nothing, or the client that takes none?

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use netra_context::Runtime;
use netra_context::runtime::TaskKind;
use parking_lot::Mutex;

use super::pace::Watch;

/// What is handed over at once, in bytes: what the connection holds of an answer beyond what the client has room for.
const PIECE: usize = 16 * 1024;

/// How far an answer has been handed over.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pieces: AtomicU64,
    /// Whether a piece waits for the client; else it is the answer that is waited for.
    is_at_client: AtomicBool,
}

/// Tasks of one connection that carries many requests at once. A task is begun right after its request was let in, so
/// the progress of the answer is handed from the one to the other here.
#[derive(Clone)]
pub(crate) struct Streams {
    runtime: Runtime,
    allowed: Duration,
    next: Arc<Mutex<Option<Arc<Progress>>>>,
}

impl Streams {
    pub(crate) fn new(runtime: Runtime, allowed: Duration) -> Self {
        Self {
            runtime,
            allowed,
            next: Arc::default(),
        }
    }

    /// A request has come; the next task carries it.
    pub(crate) fn begin(&self) -> Arc<Progress> {
        let progress = Arc::<Progress>::default();
        *self.next.lock() = Some(progress.clone());
        progress
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, task: F) {
        let progress = self.next.lock().take();
        let stream = Stream {
            task: Some(Box::pin(task)),
            progress: progress.unwrap_or_default(),
            seen: 0,
            allowed: self.allowed,
            watch: Watch::default(),
        };
        self.runtime.spawn(TaskKind::Part, stream);
    }
}

/// The task of a stream. It is dropped where the client takes nothing for too long, and the stream is reset with it.
struct Stream<F> {
    task: Option<Pin<Box<F>>>,
    progress: Arc<Progress>,
    seen: u64,
    allowed: Duration,
    watch: Watch,
}

impl<F: Future<Output = ()>> Future for Stream<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let Some(task) = &mut this.task else {
            return Poll::Ready(());
        };
        if task.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let pieces = this.progress.pieces.load(Ordering::Relaxed);
        if pieces != this.seen || !this.progress.is_at_client.load(Ordering::Relaxed) {
            this.seen = pieces;
            this.watch.moved();
        }
        if !this.progress.is_at_client.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        ready!(this.watch.poll_stalled(cx, this.allowed));
        metrics::counter!("netra_streams_stalled_total").increment(1);
        this.task = None;
        Poll::Ready(())
    }
}

/// The body of an answer in pieces, of which the last byte goes alone: it is asked for when all before it have found
/// room at the client, so until then the stream's task has not ended.
pub(crate) struct PiecedBody {
    body: Body,
    left: Bytes,
    progress: Arc<Progress>,
}

impl PiecedBody {
    pub(crate) fn new(body: Body, progress: Arc<Progress>) -> Self {
        let left = Bytes::new();
        Self {
            body,
            left,
            progress,
        }
    }

    fn piece(&mut self) -> Bytes {
        let is_last = self.body.is_end_stream();
        let bytes = match self.left.len() {
            len if len > PIECE => PIECE,
            len if is_last && len > 1 => len - 1,
            len => len,
        };
        self.progress.pieces.fetch_add(1, Ordering::Relaxed);
        self.progress.is_at_client.store(true, Ordering::Relaxed);
        self.left.split_to(bytes)
    }
}

impl HttpBody for PiecedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        this.progress.is_at_client.store(false, Ordering::Relaxed);
        if this.left.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.left = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
            }
        }
        let piece = this.piece();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, left) = (self.body.size_hint(), self.left.len() as u64);
        let upper = hint.upper().map(|upper| upper + left);
        hint.set_lower(hint.lower() + left);
        if let Some(upper) = upper {
            hint.set_upper(upper);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn pieces(body: Body) -> Vec<usize> {
        let mut body = PiecedBody::new(body, Arc::default());
        let mut pieces = Vec::new();
        while let Some(frame) = body.frame().await {
            pieces.push(frame.unwrap().into_data().unwrap().len());
        }
        pieces
    }

    #[tokio::test]
    async fn an_answer_goes_in_pieces_and_its_last_byte_alone() {
        assert_eq!(pieces(Body::empty()).await, [0; 0]);
        assert_eq!(pieces("x".into()).await, [1]);
        assert_eq!(pieces("hello".into()).await, [4, 1]);
        let long = vec![b'x'; 2 * PIECE + 7];
        assert_eq!(pieces(long.into()).await, [PIECE, PIECE, 6, 1]);
        let body = PiecedBody::new("hello".into(), Arc::default());
        assert_eq!(body.size_hint().exact(), Some(5));
    }
}
