//! Bodies that must bring something now and then, and connections that must take something.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::places::Place;
use super::transport::Transport;

/// Nothing came, or nothing was taken, for too long.
#[derive(Debug, thiserror::Error)]
#[error("nothing moved for too long")]
pub(crate) struct Stalled;

/// Whether the error is, or was caused by, a body that brought nothing.
pub(crate) fn is_stalled(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<Stalled>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Runs while something does not move.
#[derive(Default)]
pub(super) struct Watch(Option<Pin<Box<Sleep>>>);

impl Watch {
    pub(super) fn moved(&mut self) {
        self.0 = None;
    }

    /// Ready when nothing has moved for as long as allowed.
    pub(super) fn poll_stalled(&mut self, cx: &mut Context<'_>, allowed: Duration) -> Poll<()> {
        let sleep = self
            .0
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(allowed)));
        sleep.as_mut().poll(cx)
    }
}

/// What a body has to bring at least in the time in which it may bring nothing: one byte now and then is no more.
const LEAST: usize = 16 * 1024;

/// A body that fails with [`Stalled`] when it brings too little for too long while it is read.
pub(crate) struct PacedBody {
    /// None once it has failed.
    body: Option<Incoming>,
    allowed: Duration,
    /// Bytes since the time began.
    brought: usize,
    watch: Watch,
}

impl PacedBody {
    pub(crate) fn new(body: Incoming, allowed: Duration) -> Self {
        Self {
            body: Some(body),
            allowed,
            brought: 0,
            watch: Watch::default(),
        }
    }
}

impl HttpBody for PacedBody {
    type Data = Bytes;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) {
            let data = frame
                .as_ref()
                .and_then(|frame| frame.as_ref().ok()?.data_ref());
            this.brought += data.map_or(0, Bytes::len);
            if this.brought >= LEAST {
                this.brought = 0;
                this.watch.moved();
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        ready!(this.watch.poll_stalled(cx, this.allowed));
        this.body = None;
        Poll::Ready(Some(Err(Stalled.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(SizeHint::new, HttpBody::size_hint)
    }
}

/// A connection that breaks when the other side takes no byte of an answer for too long. It holds
/// its place, as a WebSocket too.
pub(crate) struct PacedStream {
    stream: Transport,
    allowed: Duration,
    watch: Watch,
    place: Arc<Place>,
}

impl PacedStream {
    pub(crate) fn new(stream: Transport, allowed: Duration, place: Arc<Place>) -> Self {
        Self {
            stream,
            allowed,
            watch: Watch::default(),
            place,
        }
    }

    fn watched(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(outcome) = &written {
            self.watch.moved();
            self.place.took(*outcome.as_ref().unwrap_or(&0));
            return written;
        }
        ready!(self.watch.poll_stalled(cx, self.allowed));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, Stalled)))
    }
}

impl AsyncRead for PacedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for PacedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watched(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watched(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
