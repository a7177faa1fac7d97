//! What reads the words of strangers: no bytes make it panic, and what is right reads back.
//!
//! Tokens are tried beside `auth/token.rs` and `auth/issuer.rs`; the room that JSON takes in netra-memory.

use std::collections::BTreeMap;

use axum::http::{HeaderName, HeaderValue, Uri, Version};
use netra_protocol::approval::{Decision, ResolveApproval};
use netra_protocol::frame::{
    After, ApprovalRespond, AuthRefresh, ClientFrame, Delivered, Empty, RunCancel, RunStart,
    Subscribe,
};
use netra_protocol::id::{ApprovalId, FileId, RunId, ThreadId};
use netra_protocol::limits::LimitOverrides;
use netra_protocol::run::{OnBusy, OnLimit, StartRun};
use netra_protocol::tool::{PutToolServer, SecretUse};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, json};

use super::*;
use crate::extract::{Paging, parse_query};
use crate::{json as bodies, layers, sse, ws};

fn input() -> impl Strategy<Value = Value> {
    let field = ("[a-z]{1,8}", any::<i64>());
    prop_oneof![
        ".{0,60}".prop_map(Value::from),
        vec(field, 0..4).prop_map(|fields| json!(BTreeMap::from_iter(fields))),
    ]
}

fn start() -> impl Strategy<Value = StartRun> {
    let ids = vec((any::<u32>(), any::<u64>()), 0..4);
    let metadata = proptest::option::of(("[a-z]{1,8}", ".{0,20}"));
    let timeout = proptest::option::of(any::<u64>());
    (
        "[a-z-]{1,12}",
        input(),
        ids,
        metadata,
        timeout,
        any::<(bool, bool)>(),
    )
        .prop_map(
            |(agent, input, ids, metadata, timeout_ms, (reject, interrupt))| StartRun {
                agent,
                input,
                files: ids
                    .into_iter()
                    .map(|(ms, random)| FileId::from_parts(ms.into(), random.into()))
                    .collect(),
                metadata: metadata.map(|(name, text)| Map::from_iter([(name, text.into())])),
                timeout_ms,
                on_limit: if reject {
                    OnLimit::Reject
                } else {
                    OnLimit::Queue
                },
                on_busy: if interrupt {
                    OnBusy::Interrupt
                } else {
                    OnBusy::Queue
                },
            },
        )
}

fn frame() -> impl Strategy<Value = ClientFrame> {
    let id = (any::<u32>(), any::<u64>());
    let run = id.prop_map(|(ms, random)| RunCancel {
        run_id: RunId::from_parts(ms.into(), random.into()),
    });
    let start = (start(), proptest::option::of("[ -~]{1,30}"), any::<u32>()).prop_map(
        |(start, idempotency_key, ms)| RunStart {
            thread_id: (ms % 2 == 0).then(|| ThreadId::from_parts(ms.into(), 1)),
            idempotency_key,
            start,
        },
    );
    let answer = (any::<bool>(), proptest::option::of(".{0,30}"), input()).prop_map(
        |(approve, note, arguments)| ApprovalRespond {
            approval_id: ApprovalId::from_parts(1, 2),
            answer: ResolveApproval {
                decision: if approve {
                    Decision::Approve
                } else {
                    Decision::Deny
                },
                note,
                arguments: Some(arguments),
            },
        },
    );
    let after = prop_oneof![Just(After::Now), any::<u64>().prop_map(After::Seq)];
    let subscribe = (after, proptest::option::of("[0-9a-f]{1,16}"), any::<bool>()).prop_map(
        |(after, epoch, deltas)| Subscribe {
            after,
            epoch,
            threads: deltas.then(|| vec![ThreadId::from_parts(1, 2)]),
            deltas,
        },
    );
    prop_oneof![
        start.prop_map(ClientFrame::RunStart),
        run.prop_map(ClientFrame::RunCancel),
        answer.prop_map(ClientFrame::ApprovalRespond),
        subscribe.prop_map(ClientFrame::Subscribe),
        any::<u64>().prop_map(|seq| ClientFrame::Delivered(Delivered { seq })),
        ".{0,40}".prop_map(|token| ClientFrame::AuthRefresh(AuthRefresh { token })),
        Just(ClientFrame::Ping(Empty {})),
    ]
}

/// A few bytes in other places, as a broken client or a curious one sends them.
fn damaged(bytes: &mut [u8], places: &[(Index, u8)]) {
    for (place, byte) in places {
        if !bytes.is_empty() {
            bytes[place.index(bytes.len())] = *byte;
        }
    }
}

fn damage() -> impl Strategy<Value = Vec<(Index, u8)>> {
    vec((any::<Index>(), any::<u8>()), 1..6)
}

fn headers(name: &'static str, value: &[u8]) -> Option<HeaderMap> {
    let value = HeaderValue::from_bytes(value).ok()?;
    Some(HeaderMap::from_iter([(
        HeaderName::from_static(name),
        value,
    )]))
}

proptest! {
    #[test]
    fn a_frame_reads_back(frame in frame(), id in 0_u32..1_000) {
        let mut sent = serde_json::to_value(&frame).unwrap();
        sent["id"] = id.into();
        let read = ws::frames::read(&sent.to_string());
        prop_assert_eq!(read.id, json!(id));
        prop_assert_eq!(read.frame.unwrap(), frame);
    }

    #[test]
    fn a_damaged_frame_is_a_frame_or_an_error(frame in frame(), places in damage()) {
        let mut bytes = serde_json::to_vec(&frame).unwrap();
        damaged(&mut bytes, &places);
        // Text frames are UTF-8, or the socket is closed before anything is read.
        ws::frames::read(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_body_reads_back(start in start()) {
        let bytes = serde_json::to_vec(&start).unwrap();
        prop_assert_eq!(bodies::parse::<StartRun>(&bytes).unwrap(), start);
    }

    #[test]
    fn a_damaged_body_is_a_body_or_an_error(start in start(), places in damage()) {
        let mut bytes = serde_json::to_vec(&start).unwrap();
        damaged(&mut bytes, &places);
        bodies::parse::<StartRun>(&bytes).ok();
    }

    #[test]
    fn no_bytes_make_a_body_panic(bytes in vec(any::<u8>(), 0..300)) {
        bodies::parse::<StartRun>(&bytes).ok();
        bodies::parse::<LimitOverrides>(&bytes).ok();
        bodies::parse::<PutToolServer>(&bytes).ok();
    }

    #[test]
    fn limits_and_headers_of_a_body_read_back(steps in any::<u32>(), usd in 0.0_f64..1e9, name in "[A-Za-z-]{1,20}") {
        let limits = LimitOverrides { steps: Some(steps), budget_usd: Some(usd), ..LimitOverrides::default() };
        let bytes = serde_json::to_vec(&limits).unwrap();
        prop_assert_eq!(bodies::parse::<LimitOverrides>(&bytes).unwrap(), limits);
        let used = SecretUse { secret: name.clone(), prefix: "Bearer ".into() };
        let put = PutToolServer { url: "https://a.example".into(), headers: BTreeMap::from([(name, used)]) };
        let bytes = serde_json::to_vec(&put).unwrap();
        prop_assert_eq!(bodies::parse::<PutToolServer>(&bytes).unwrap(), put);
    }

    #[test]
    fn parameters_read_back_and_others_are_errors(limit in 1_i64..=100, cursor in ".{0,40}", garbage in "[ -~]{0,60}") {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("limit", &limit.to_string())
            .append_pair("cursor", &cursor)
            .finish();
        let paging: Paging = parse_query(&query).unwrap();
        prop_assert_eq!(i64::from(paging.limit().unwrap()), limit);
        prop_assert_eq!(paging.cursor, Some(cursor.as_str().into()));
        parse_query::<Paging>(&garbage).ok();
    }

    #[test]
    fn a_cursor_of_a_stream_reads_back(epoch in proptest::option::of("[!-~]{1,20}"), seq in 0..=9_999_999_999_999_999_999_u64) {
        let text = match &epoch {
            Some(epoch) => format!("{epoch}:{seq}"),
            None => seq.to_string(),
        };
        let given = headers("last-event-id", text.as_bytes()).unwrap();
        let read = sse::resume_at(&given, Some("1")).unwrap().unwrap();
        prop_assert_eq!((read.epoch, read.seq), (epoch.clone(), seq));
        let read = sse::resume_at(&HeaderMap::new(), Some(&text)).unwrap().unwrap();
        prop_assert_eq!((read.epoch, read.seq), (epoch, seq));
    }

    #[test]
    fn no_bytes_make_a_cursor_panic(bytes in vec(any::<u8>(), 0..60), text in ".{0,60}") {
        let given = headers("last-event-id", &bytes).unwrap_or_default();
        sse::resume_at(&given, Some(&text)).ok();
    }

    #[test]
    fn no_header_makes_the_edge_panic(bytes in vec(any::<u8>(), 0..120)) {
        for name in ["authorization", "x-api-key", "x-netra-user", "cookie", "host", "origin", "x-forwarded-for"] {
            let Some(given) = headers(name, &bytes) else { continue };
            layers::presented(&given).ok();
            layers::acts_for(&given).ok();
            crate::auth::cookie::read(&given);
            crate::auth::origin::checked_host(Version::HTTP_11, &given, &Uri::from_static("/")).ok();
            crate::auth::origin::check(&Config::default(), &given, &Uri::from_static("/ws")).ok();
            let trusted = ["10.0.0.0/8".parse().unwrap()];
            let peer = crate::address::Peer::of("10.0.0.1".parse().unwrap());
            crate::address::of_client(peer, &given, &trusted);
        }
    }

    #[test]
    fn credentials_read_back(token in "[A-Za-z0-9._-]{1,80}") {
        let bearer = headers("authorization", format!("Bearer {token}").as_bytes()).unwrap();
        prop_assert_eq!(layers::presented(&bearer).unwrap(), Some(token.as_str()));
        let line = format!("a=b; netra_refresh={token}; c=d");
        let cookie = headers("cookie", line.as_bytes()).unwrap();
        prop_assert_eq!(crate::auth::cookie::read(&cookie), Some(token));
    }
}

/// A form with one file.
fn form(boundary: &str, name: &str, content: &[u8]) -> Vec<u8> {
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
         Content-Type: text/csv\r\n\r\n"
    );
    let tail = format!("\r\n--{boundary}--\r\n");
    [head.as_bytes(), content, tail.as_bytes()].concat()
}

/// Sends a form, and gives the answer and the content that was stored.
async fn sent(
    edge: &Edge,
    token: &str,
    boundary: &str,
    body: Vec<u8>,
) -> (Answer, Option<Vec<u8>>) {
    let upload = request(Method::POST, "/api/files", Some(token), None);
    let kind = format!("multipart/form-data; boundary={boundary}");
    let mut upload = with(upload, "content-type", &kind);
    *upload.body_mut() = Body::from(body);
    let answer = edge.send(upload).await;
    if answer.status != 201 {
        return (answer, None);
    }
    let id = answer.body["id"].as_str().unwrap();
    let read = request(
        Method::GET,
        &format!("/api/files/{id}/content"),
        Some(token),
        None,
    );
    let content = edge.router.clone().oneshot(read).await.unwrap();
    let content = content.into_body().collect().await.unwrap().to_bytes();
    (answer, Some(content.to_vec()))
}

/// A user who may send as many forms as these tests have.
async fn uploader() -> (Edge, String) {
    let edge = Edge::new(Config::default());
    edge.limit(|limits| {
        limits.requests_per_minute = 1_000_000;
        limits.upload_mib = 1;
    });
    let (_, token) = edge.user("anna", Role::User).await;
    (edge, token)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn the_file_of_a_form_reads_back() {
    let runtime = runtime();
    let (edge, token) = runtime.block_on(uploader());
    let cases = ProptestConfig::with_cases(64);
    // A boundary is no part of the content: whoever sends a form picks it so.
    proptest!(cases, |(content in vec(any::<u8>(), 0..3_000), name in "[a-z]{1,12}")| {
        let body = form("b0undary-0f-a-test", &name, &content);
        let (answer, stored) = runtime.block_on(sent(&edge, &token, "b0undary-0f-a-test", body));
        prop_assert_eq!(answer.status, StatusCode::CREATED);
        prop_assert_eq!(answer.body["name"].as_str(), Some(name.as_str()));
        prop_assert_eq!(stored, Some(content));
    });
}

#[test]
fn a_damaged_form_is_stored_or_refused_and_never_a_fault_of_the_server() {
    let runtime = runtime();
    let (edge, token) = runtime.block_on(uploader());
    let cases = ProptestConfig::with_cases(192);
    proptest!(cases, |(places in damage(), cut in any::<Index>(), bytes in vec(any::<u8>(), 0..400))| {
        let mut broken = form("B", "log.csv", b"a,b\n1,2\n");
        damaged(&mut broken, &places);
        let length = cut.index(broken.len() + 1);
        let short = form("B", "log.csv", b"a,b\n1,2\n")[..length.min(60)].to_vec();
        for body in [broken, short, bytes] {
            let (answer, _) = runtime.block_on(sent(&edge, &token, "B", body));
            let status = answer.status.as_u16();
            prop_assert!(matches!(status, 201 | 400), "{} {}", status, answer.body);
        }
    });
}
