//! The queue of spans: what has ended goes in without waiting, and is sent in batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use netra_context::Runtime;
use netra_context::runtime::TaskKind;
use netra_context::trace::{Told, Tracer};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::post::{Post, Unsent};
use super::spans;

/// The most spans that wait.
const MOST_SPANS: usize = 4096;
/// The most bytes of them.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// The most spans that are sent at once.
const BATCH: usize = 512;
/// How long a span waits for others to be sent with.
const LINGER: Duration = Duration::from_secs(1);
/// After these a batch is sent again that the collector did not take.
const PAUSES: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// Where spans go in.
pub(super) struct Queue {
    spans: mpsc::Sender<Told>,
    /// How many bytes wait.
    bytes: Arc<AtomicUsize>,
    sample: f64,
    content: bool,
}

/// Where they come out.
pub(crate) struct Line {
    spans: mpsc::Receiver<Told>,
    bytes: Arc<AtomicUsize>,
    batch: Vec<Told>,
    to: Option<(Post, Resource)>,
}

pub(super) fn new(sample: f64, content: bool) -> (Queue, Line) {
    let (sender, receiver) = mpsc::channel(MOST_SPANS);
    let bytes = Arc::<AtomicUsize>::default();
    let queue = Queue {
        spans: sender,
        bytes: Arc::clone(&bytes),
        sample,
        content,
    };
    let line = Line {
        spans: receiver,
        bytes,
        batch: Vec::new(),
        to: None,
    };
    (queue, line)
}

fn dropped(reason: &'static str, count: usize) {
    metrics::counter!("netra_telemetry_spans_dropped_total", "reason" => reason)
        .increment(count as u64);
}

impl Tracer for Queue {
    /// By the trace's id, so that servers with the same share choose the same traces.
    fn samples(&self, trace: u128) -> bool {
        let low = trace as u64;
        // The upper 53 bits are all that a fraction can hold.
        ((low >> 11) as f64) < self.sample * (1_u64 << 53) as f64
    }

    fn wants_content(&self) -> bool {
        self.content
    }

    fn take(&self, span: Told) {
        let bytes = span.bytes();
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > MOST_BYTES || self.spans.try_send(span).is_err() {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            dropped("queue_full", 1);
        }
    }
}

impl Line {
    /// Sends spans as long as the server runs, and gives back what is left then.
    pub(super) fn keep(
        mut self,
        runtime: &Runtime,
        post: Post,
        resource: Resource,
    ) -> JoinHandle<Option<Self>> {
        self.to = Some((post, resource));
        let shutdown = runtime.shutdown().clone();
        runtime.spawn(TaskKind::Sweep, async move {
            // What is being sent when the server stops stays in the batch, and is sent with the rest.
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.go_on() => {}
            }
            self
        })
    }

    async fn go_on(&mut self) {
        loop {
            self.gather().await;
            self.send(PAUSES).await;
        }
    }

    /// Waits for a whole batch, or for a moment after its first span.
    async fn gather(&mut self) {
        if self.batch.is_empty() {
            self.spans.recv_many(&mut self.batch, BATCH).await;
        }
        let mut moment = std::pin::pin!(tokio::time::sleep(LINGER));
        while self.batch.len() < BATCH {
            let room = BATCH - self.batch.len();
            tokio::select! {
                biased;
                () = &mut moment => return,
                _ = self.spans.recv_many(&mut self.batch, room) => {}
            }
        }
    }

    /// Sends the batch, again after each pause where that may help; what the collector does not take is dropped.
    async fn send(&mut self, pauses: [Duration; 3]) {
        let mut sent = self.post().await;
        for pause in pauses {
            if !matches!(sent, Err(Unsent::ForNow)) {
                break;
            }
            tokio::time::sleep(pause).await;
            sent = self.post().await;
        }
        if sent.is_err() {
            dropped("not_sent", self.batch.len());
        }
        self.done();
    }

    /// One try. Whoever gives up counts what was not sent.
    async fn post(&self) -> Result<(), Unsent> {
        let Some((post, resource)) = &self.to else {
            return Err(Unsent::ForGood);
        };
        let request = spans::request(&self.batch, resource.clone());
        let request = request.encode_to_vec().into();
        let answer = post.once("v1/traces", request).await?;
        let refused = spans::refused(&answer).min(self.batch.len());
        dropped("refused", refused);
        metrics::counter!("netra_telemetry_spans_sent_total")
            .increment((self.batch.len() - refused) as u64);
        Ok(())
    }

    fn done(&mut self) {
        let bytes: usize = self.batch.drain(..).map(|span| span.bytes()).sum();
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Sends all that waits, without waiting for more. What the collector does not take now is dropped.
    pub(super) async fn empty(mut self) {
        loop {
            while self.batch.len() < BATCH
                && let Ok(span) = self.spans.try_recv()
            {
                self.batch.push(span);
            }
            if self.batch.is_empty() {
                return;
            }
            match self.post().await {
                Ok(()) => {}
                Err(Unsent::ForGood) => dropped("not_sent", self.batch.len()),
                Err(Unsent::ForNow) => {
                    dropped("not_sent", self.batch.len() + self.spans.len());
                    return;
                }
            }
            self.done();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use metrics_exporter_prometheus::PrometheusBuilder;
    use netra_context::trace::SpanKind;

    use super::*;
    use crate::config::Collector;

    fn spans(runtime: &Runtime, count: usize, text: &str) {
        let place = runtime.place_within(None);
        for _ in 0..count {
            let mut span = runtime.span(Some(place), SpanKind::Internal, || "x".into());
            span.set("text", text);
            span.end();
        }
    }

    #[test]
    fn a_full_queue_drops_what_comes_and_waits_for_nobody() {
        let (queue, mut line) = new(1.0, false);
        let runtime = Runtime::traced(Arc::new(queue));
        spans(&runtime, MOST_SPANS + 10, "");
        let mut waiting = 0;
        while line.spans.try_recv().is_ok() {
            waiting += 1;
        }
        assert_eq!(waiting, MOST_SPANS);
    }

    #[test]
    fn a_queue_is_full_by_bytes_too_and_is_empty_again_when_they_were_sent() {
        let (queue, mut line) = new(1.0, false);
        let runtime = Runtime::traced(Arc::new(queue));
        let large = "x".repeat(16 * 1024);
        spans(&runtime, 2_000, &large);
        while let Ok(span) = line.spans.try_recv() {
            line.batch.push(span);
        }
        let waited = line.batch.len();
        assert!((900..1_100).contains(&waited), "{waited}");
        line.done();
        assert_eq!(line.bytes.load(Ordering::Relaxed), 0);
    }

    /// A collector that gives these answers, one for each request.
    fn collector(statuses: [u16; 4]) -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for status in statuses {
                let stream = listener.accept().unwrap().0;
                answer(&mut BufReader::new(stream), status);
            }
        });
        Collector {
            endpoint: format!("http://{address}").parse().unwrap(),
            headers: Default::default(),
            service_name: "netra".into(),
            traces: true,
            metrics: false,
            sample: 1.0,
            content: false,
            metrics_interval: Duration::from_secs(60),
        }
    }

    /// Reads a request to its end, and answers.
    fn answer(stream: &mut BufReader<TcpStream>, status: u16) {
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).unwrap();
            let header = line.to_lowercase();
            if let Some(said) = header.strip_prefix("content-length:") {
                length = said.trim().parse().unwrap();
            }
        }
        stream.read_exact(&mut vec![0; length]).unwrap();
        let answer = "Said\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        write!(stream.get_mut(), "HTTP/1.1 {status} {answer}").unwrap();
    }

    #[test]
    fn spans_that_are_refused_after_tries_that_might_have_helped_are_counted_once() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let counted = recorder.handle();
        let (queue, mut line) = new(1.0, false);
        spans(&Runtime::traced(Arc::new(queue)), 3, "");
        while let Ok(span) = line.spans.try_recv() {
            line.batch.push(span);
        }
        let post = Post::new(&collector([503, 503, 503, 400])).unwrap();
        line.to = Some((post, Resource::default()));
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        metrics::with_local_recorder(&recorder, || {
            runtime.block_on(line.send([Duration::ZERO; 3]));
        });
        let counted = counted.render();
        for told in [
            "netra_telemetry_requests_failed_total 4",
            "netra_telemetry_spans_dropped_total{reason=\"not_sent\"} 3",
        ] {
            assert!(counted.lines().any(|line| line == told), "{counted}");
        }
    }

    #[test]
    fn the_share_of_traces_is_the_one_that_is_asked_for() {
        let share = |sample| {
            let (queue, _line) = new(sample, false);
            let ids = (0..10_000_u64).map(|n| u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            ids.filter(|id| queue.samples(*id)).count()
        };
        assert_eq!((share(0.0), share(1.0)), (0, 10_000));
        let quarter = share(0.25);
        assert!((2_400..2_600).contains(&quarter), "{quarter}");
    }
}
