//! HTTP/2: a client that takes nothing of an answer loses that answer, and nothing else.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use netra_context::runtime::TaskKind;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{self, ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::sockets::SOON;
use super::*;
use crate::{Door, Tls, serve_at};

/// What the client has room for in each stream, in bytes.
const ROOM: u32 = 100;

/// These tests are not about who the server is.
#[derive(Debug)]
struct Anybody(CryptoProvider);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

async fn listen(edge: &Edge) -> SocketAddr {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../integration/tests/it/tls");
    let tls = Tls::read(&here.join("certificate.pem"), &here.join("key.pem")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let doors = vec![Door::tcp(listener, Some(tls))];
    let parts = (edge.parts)();
    edge.runtime.spawn(TaskKind::Listener, async move {
        serve_at(doors, parts).await.unwrap();
    });
    address
}

/// A connection whose streams have room for this much, as far as nobody takes anything.
async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(ring::default_provider())))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let tls = TlsConnector::from(Arc::new(config));
    let tls = tls.connect(name, stream).await.unwrap();
    let mut builder = h2::client::Builder::new();
    let opened = builder
        .initial_window_size(ROOM)
        .handshake::<_, Bytes>(tls)
        .await;
    let (client, connection) = opened.unwrap();
    Runtime::new().spawn(TaskKind::Part, async move {
        connection.await.ok();
    });
    client
}

/// Asks, takes nothing, and tells what came up to the end, and whether the end was one.
async fn ask(client: &SendRequest<Bytes>, path: &str, token: &str) -> (u16, usize, bool) {
    let request = Request::builder()
        .uri(format!("https://127.0.0.1{path}"))
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .body(())
        .unwrap();
    let mut client = client.clone().ready().await.unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    let answer = answer.await.unwrap();
    let status = answer.status().as_u16();
    let (mut body, mut bytes) = (answer.into_body(), 0);
    while let Some(data) = tokio::time::timeout(SOON, body.data()).await.unwrap() {
        match data {
            Ok(data) => bytes += data.len(),
            Err(_) => return (status, bytes, false),
        }
    }
    (status, bytes, true)
}

#[tokio::test]
async fn a_client_of_http_2_that_takes_nothing_loses_the_answer_and_keeps_the_connection() {
    let edge = Edge::new(Config {
        write_stall: Duration::from_millis(100),
        ..Config::default()
    });
    let (_, token) = edge.user("anna", Role::User).await;
    let address = listen(&edge).await;
    let client = connect(address).await;
    // A long answer, and one that fits into what the connection would hold.
    for path in ["/api/openapi.json", "/api/auth/me"] {
        let (status, bytes, is_whole) = ask(&client, path, &token).await;
        assert_eq!(
            (status, bytes, is_whole),
            (200, ROOM as usize, false),
            "{path}"
        );
    }
    let (status, bytes, is_whole) = ask(&client, "/health/live", &token).await;
    assert_eq!((status, bytes, is_whole), (200, 17, true));
    assert_eq!(edge.runtime.drain(SOON).await, 0, "no task is left");
}

#[tokio::test]
async fn a_stream_of_events_that_has_nothing_to_say_is_not_a_client_that_takes_nothing() {
    let edge = Edge::new(Config {
        write_stall: Duration::from_millis(50),
        ..Config::default()
    });
    let (_, token) = edge.user("anna", Role::User).await;
    let address = listen(&edge).await;
    let client = connect(address).await;
    let quiet = ask(&client, "/api/events", &token);
    let mut quiet = std::pin::pin!(quiet);
    // Another is given up meanwhile, which takes as long as the quiet one is quiet for.
    for _ in 0..3 {
        let deaf = ask(&client, "/api/auth/me", &token);
        tokio::select! {
            ended = &mut quiet => panic!("it has ended: {ended:?}"),
            (_, _, is_whole) = deaf => assert!(!is_whole),
        }
    }
}
