//! WebSockets whose client breaks the protocol, or reads nothing.

use std::time::Duration;

use futures::SinkExt as _;
use serde_json::json;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::tungstenite::Message;

use super::sockets::{Client, SOON, listen, open};
use super::*;

/// What a client's library would not send.
async fn send_raw(client: &mut Client, bytes: &[u8]) {
    let MaybeTlsStream::Plain(stream) = client.0.get_mut() else {
        unreachable!()
    };
    tokio::io::AsyncWriteExt::write_all(stream, bytes)
        .await
        .unwrap();
}

#[tokio::test]
async fn broken_frames_close_with_a_reason() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    let address = listen(&edge).await;
    let long_ping = [&[0x89, 0xfe, 0, 126, 0, 0, 0, 0][..], &[b'x'; 126]].concat();
    for (what, bytes, code) in [
        ("not masked", &[0x81, 2, b'{', b'}'][..], 1002),
        ("a reserved bit", &[0xc1, 0x80, 0, 0, 0, 0], 1002),
        ("a reserved opcode", &[0x83, 0x80, 0, 0, 0, 0], 1002),
        ("a long ping", &long_ping, 1002),
        ("not UTF-8", &[0x81, 0x81, 0, 0, 0, 0, 0xff], 1007),
    ] {
        let mut client = open(address, &token).await;
        send_raw(&mut client, bytes).await;
        assert_eq!(client.close_code().await, code, "{what}");
    }
}

/// Keeps why sockets were closed.
#[derive(Default)]
struct Reasons(std::sync::Mutex<Vec<String>>);

impl metrics::Recorder for Reasons {
    fn describe_counter(
        &self,
        _: metrics::KeyName,
        _: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
    }

    fn describe_gauge(
        &self,
        _: metrics::KeyName,
        _: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
    }

    fn describe_histogram(
        &self,
        _: metrics::KeyName,
        _: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
    }

    fn register_counter(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        if key.name() == "netra_sockets_closed_total" {
            let reasons = key.labels().map(|label| label.value().to_owned());
            self.0.lock().unwrap().extend(reasons);
        }
        metrics::Counter::noop()
    }

    fn register_gauge(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::noop()
    }

    fn register_histogram(
        &self,
        _: &metrics::Key,
        _: &metrics::Metadata<'_>,
    ) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_let_go() {
    let edge = Edge::new(Config {
        write_stall: Duration::from_millis(200),
        ..Config::default()
    });
    edge.limit(|limits| limits.messages_per_10s = u32::MAX);
    let (_, token) = edge.user("anna", Role::User).await;
    let address = listen(&edge).await;
    let mut client = open(address, &token).await;
    // The server runs on this thread too, so this hears what it counts.
    let reasons = Reasons::default();
    let _heard = metrics::set_default_local_recorder(&reasons);
    // Answers to what is not read fill the buffers between the two. The reason cannot arrive
    // where nothing is read, so only its count tells of it.
    let ping = Message::text(json!({"type": "ping", "id": "x".repeat(128)}).to_string());
    let ask_on = async { while client.0.send(ping.clone()).await.is_ok() {} };
    tokio::time::timeout(SOON, ask_on).await.unwrap();
    assert_eq!(*reasons.0.lock().unwrap(), ["stalled"]);
}
