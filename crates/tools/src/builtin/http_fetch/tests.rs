//! Fetches from servers of the test, with names that the test gives. The whole of 127/8 is this
//! machine's, so one of its addresses stands for the internet and the others for what is private.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use parking_lot::Mutex;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::*;
use crate::public_web::Destination;
use crate::public_web::target::Rules;

const PUBLIC: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 11));
const PRIVATE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 12));

/// Names with the addresses of each look-up; the last one stays.
#[derive(Default)]
struct Names {
    known: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    asked: Mutex<Vec<String>>,
}

impl Names {
    fn of(known: &[(&str, &[&[IpAddr]])]) -> Arc<Self> {
        let known = known.iter().map(|(name, answers)| {
            let answers = answers.iter().map(|answer| answer.to_vec()).collect();
            ((*name).to_owned(), answers)
        });
        Arc::new(Self {
            known: Mutex::new(known.collect()),
            asked: Mutex::default(),
        })
    }

    fn answer(&self, name: &str) -> Option<Vec<IpAddr>> {
        self.asked.lock().push(name.to_owned());
        let mut known = self.known.lock();
        let answers = known.get_mut(name)?;
        Some(if answers.len() > 1 {
            answers.remove(0)
        } else {
            answers[0].clone()
        })
    }
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.answer(name.as_str());
        Box::pin(async move {
            // A resolver that names a port is not listened to.
            let found = found.ok_or("no such name")?.into_iter();
            Ok(Box::new(found.map(|address| SocketAddr::new(address, 1))) as Addrs)
        })
    }
}

/// Answers each connection by the path that it asks for, and tells of each request.
fn serve(address: IpAddr, port: u16, answer: fn(&str) -> Vec<u8>) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind((address, port)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = sync_channel(64);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while lines.read_line(&mut head).unwrap_or(0) > 2 {}
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            tell.send(head).ok();
            // A reader that has enough goes away.
            stream.write_all(&answer(&path)).ok();
        }
    });
    (port, told)
}

fn text(body: &str) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length:";
    format!("{head} {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn redirect_to(location: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n").into_bytes()
}

fn reach(names: &Arc<Names>, allow: &[String]) -> Reach {
    let rules = Rules {
        allow: allow
            .iter()
            .map(|text| Destination::parse(text).unwrap())
            .collect(),
        may_connect: |address| address == PUBLIC,
        may_use: |port| port != 22,
    };
    Reach::new(PublicWeb::under(rules, Arc::clone(names) as _)).unwrap()
}

fn get(url: String) -> Arguments {
    Arguments {
        url,
        method: Verb::Get,
        redirects: None,
        max_bytes: None,
        bearer_secret: None,
        bearer: None,
    }
}

fn reason(result: Result<Value, Failure>) -> String {
    let details = result.unwrap_err().details.unwrap();
    details["reason"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_page_comes_with_its_status_and_nothing_of_ours_goes_out() {
    let (port, told) = serve(PUBLIC, 0, |_| text("hello"));
    let names = Names::of(&[("web.test", &[&[PUBLIC]])]);
    let url = format!("http://web.test:{port}/a?b=c#part");
    let page = fetch(&reach(&names, &[]), &get(url)).await.unwrap();
    assert_eq!(
        page,
        json!({
            "url": format!("http://web.test:{port}/a?b=c"),
            "status": 200,
            "headers": {"content_type": "text/plain", "content_length": "5"},
            "redirected_from": [],
            "bytes": 5,
            "truncated": false,
            "text": "hello",
        })
    );
    let request = told.recv().unwrap().to_ascii_lowercase();
    let mut lines: Vec<&str> = request.lines().filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    let host = format!("host: web.test:{port}");
    let agent = format!("user-agent: netra/{}", env!("CARGO_PKG_VERSION"));
    let mut expected = vec![
        "accept-encoding: identity",
        "accept: */*",
        "get /a?b=c http/1.1",
        &host,
        &agent,
    ];
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_name_that_leads_to_a_private_address_is_not_connected_to() {
    let (port, told) = serve(PRIVATE, 0, |_| text("secret"));
    let v6 = "::1".parse().unwrap();
    let metadata = "169.254.169.254".parse().unwrap();
    let names = Names::of(&[
        ("private.test", &[&[PRIVATE]]),
        ("mixed.test", &[&[PUBLIC, PRIVATE]]),
        ("six.test", &[&[v6]]),
        ("metadata.test", &[&[metadata]]),
    ]);
    let reach = reach(&names, &[]);
    for host in ["private.test", "mixed.test", "six.test", "metadata.test"] {
        let failure = fetch(&reach, &get(format!("http://{host}:{port}/")))
            .await
            .unwrap_err();
        assert_eq!(
            failure.message,
            format!("{host} is not fetched: it leads to an address that is not public")
        );
    }
    assert!(told.try_recv().is_err(), "nobody connected");
    let gone = fetch(&reach, &get(format!("http://gone.test:{port}/"))).await;
    assert_eq!(reason(gone), "unreachable");
}

/// A name that is public when it is judged and private a moment later: there is no second look-up
/// between judging and connecting, and the next connection is judged by what it connects to.
#[tokio::test]
async fn a_name_that_changes_is_connected_to_as_it_was_judged() {
    let (port, _told) = serve(PUBLIC, 0, |path| match path {
        "/again" => redirect_to("/"),
        _ => text("public"),
    });
    let (_, private) = serve(PRIVATE, port, |_| text("secret"));
    let known: &[(&str, &[&[IpAddr]])] = &[("flips.test", &[&[PUBLIC], &[PRIVATE]])];
    let names = Names::of(known);
    let page = fetch(
        &reach(&names, &[]),
        &get(format!("http://flips.test:{port}/")),
    )
    .await
    .unwrap();
    assert_eq!(page["text"], "public");
    assert_eq!(*names.asked.lock(), ["flips.test"]);

    let names = Names::of(known);
    let again = fetch(
        &reach(&names, &[]),
        &get(format!("http://flips.test:{port}/again")),
    )
    .await;
    assert_eq!(reason(again), "address_refused");
    assert_eq!(*names.asked.lock(), ["flips.test", "flips.test"]);
    assert!(private.try_recv().is_err(), "nobody connected");
}

#[tokio::test]
async fn a_redirect_to_what_is_not_public_is_not_followed() {
    let (port, _told) = serve(PUBLIC, 0, |path| {
        redirect_to(match path {
            "/literal" => "http://127.0.0.12/",
            "/decimal" => "http://2130706444/",
            "/six" => "http://[::1]/",
            "/mapped" => "http://[::ffff:127.0.0.12]/",
            "/metadata" => "http://169.254.169.254/latest/meta-data/",
            "/named" => "http://private.test/",
            "/port" => "http://web.test:22/",
            "/file" => "file:///etc/passwd",
            "/user" => "http://a:b@web.test/",
            _ => "http://127.0.0.12/wrong-test",
        })
    });
    let names = Names::of(&[("web.test", &[&[PUBLIC]]), ("private.test", &[&[PRIVATE]])]);
    let reach = reach(&names, &[]);
    for path in [
        "literal", "decimal", "six", "mapped", "metadata", "named", "port", "file", "user",
    ] {
        let fetched = fetch(&reach, &get(format!("http://web.test:{port}/{path}"))).await;
        assert_eq!(reason(fetched), "address_refused", "{path}");
    }
}

#[tokio::test]
async fn redirects_are_followed_as_far_as_is_asked_and_five_times_at_most() {
    let (port, _told) = serve(PUBLIC, 0, |path| match path {
        "/0" => text("here"),
        "/nowhere" => b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec(),
        path => {
            let left: u32 = path[1..].parse().unwrap();
            redirect_to(&format!("/{}", left - 1))
        }
    });
    let names = Names::of(&[("web.test", &[&[PUBLIC]])]);
    let reach = reach(&names, &[]);
    let from = |path: &str| get(format!("http://web.test:{port}/{path}"));
    let page = fetch(&reach, &from("5")).await.unwrap();
    assert_eq!(page["url"], format!("http://web.test:{port}/0"));
    assert_eq!(page["redirected_from"].as_array().unwrap().len(), 5);
    assert_eq!(
        reason(fetch(&reach, &from("6")).await),
        "too_many_redirects"
    );
    let none = Arguments {
        redirects: Some(0),
        ..from("1")
    };
    let failure = fetch(&reach, &none).await.unwrap_err();
    assert!(failure.message.contains("/0"), "{}", failure.message);
    assert_eq!(
        fetch(&reach, &from("nowhere")).await.unwrap()["status"],
        304
    );
}

#[tokio::test]
async fn a_body_is_read_up_to_the_limit_and_no_further() {
    let (port, _told) = serve(PUBLIC, 0, |path| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n";
        match path {
            // It has no end: reading it to the end would take for ever.
            "/endless" => {
                let piece = format!("1000\r\n{}\r\n", "x".repeat(0x1000)).repeat(64);
                format!("{head}transfer-encoding: chunked\r\n\r\n{piece}").into_bytes()
            }
            "/gzip" => format!("{head}content-encoding: gzip\r\ncontent-length: 1\r\n\r\nx").into(),
            _ => text("four"),
        }
    });
    let names = Names::of(&[("web.test", &[&[PUBLIC]])]);
    let reach = reach(&names, &[]);
    let of = |path: &str, max_bytes: usize| Arguments {
        max_bytes: Some(max_bytes),
        ..get(format!("http://web.test:{port}/{path}"))
    };
    let cut = fetch(&reach, &of("endless", 10_000)).await.unwrap();
    assert_eq!(
        (&cut["bytes"], &cut["truncated"]),
        (&json!(10_000), &json!(true))
    );
    assert_eq!(cut["text"].as_str().unwrap().len(), 10_000);
    let whole = fetch(&reach, &of("four", 4)).await.unwrap();
    assert_eq!(
        (&whole["text"], &whole["truncated"]),
        (&json!("four"), &json!(false))
    );
    let head = Arguments {
        method: Verb::Head,
        ..of("four", 4)
    };
    let head = fetch(&reach, &head).await.unwrap();
    assert_eq!(head["headers"]["content_length"], "4");
    assert_eq!(head.get("text"), None);
    assert_eq!(reason(fetch(&reach, &of("gzip", 10)).await), "not_text");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_given_up() {
    let listener = tokio::net::TcpListener::bind((PUBLIC, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let names = Names::of(&[("web.test", &[&[PUBLIC]])]);
    let silent = fetch(
        &reach(&names, &[]),
        &get(format!("http://web.test:{port}/")),
    )
    .await;
    let failure = silent.unwrap_err();
    assert_eq!(failure.code, ErrorCode::ToolTimeout);
}

#[tokio::test]
async fn what_the_operator_opens_is_reached_by_name_and_by_address_at_its_port() {
    let (port, _told) = serve(PRIVATE, 0, |_| text("intranet"));
    let (other, closed) = serve(PRIVATE, 0, |_| text("secret"));
    let names = Names::of(&[("wiki.test", &[&[PRIVATE]])]);
    let allow = [format!("wiki.test:{port}"), format!("{PRIVATE}:{port}")];
    let reach = reach(&names, &allow);
    for host in ["wiki.test", "127.0.0.12", "2130706444"] {
        let page = fetch(&reach, &get(format!("http://{host}:{port}/")))
            .await
            .unwrap();
        assert_eq!(page["text"], "intranet", "{host}");
        let refused = fetch(&reach, &get(format!("http://{host}:{other}/"))).await;
        assert_eq!(reason(refused), "address_refused", "{host}");
    }
    assert!(closed.try_recv().is_err(), "nobody connected");
}

/// A redirect must not carry what a user has bound to one host to another, nor to another port of it.
#[tokio::test]
async fn what_a_request_signs_in_with_goes_to_its_place_only() {
    let (other, told_other) = serve(PUBLIC, 0, |_| text("other"));
    let (port, told) = serve(PUBLIC, 0, |path| match path {
        "/own" => redirect_to("/end"),
        "/end" => text("end"),
        away => redirect_to(&format!("http://web.test:{}/", &away[1..])),
    });
    let names = Names::of(&[("web.test", &[&[PUBLIC]])]);
    let opened = [format!("web.test:{port}"), format!("web.test:{other}")];
    let ask = async |reach: &Reach, path: &str| {
        let wanted = Arguments {
            bearer: Some(Bearer {
                place: format!("web.test:{port}"),
                value: HeaderValue::from_static("Bearer canary"),
            }),
            ..get(format!("http://web.test:{port}/{path}"))
        };
        fetch(reach, &wanted).await.unwrap();
    };
    let signed = |told: &Receiver<String>| {
        told.recv()
            .unwrap()
            .to_ascii_lowercase()
            .contains("bearer canary")
    };
    let in_house = reach(&names, &opened);
    ask(&in_house, "own").await;
    assert!(
        signed(&told) && signed(&told),
        "the same place after a redirect"
    );
    ask(&in_house, &other.to_string()).await;
    assert!(signed(&told) && !signed(&told_other));
    // Without the operator's word, nothing goes out that others can read.
    ask(&reach(&names, &[]), "end").await;
    assert!(!signed(&told));
}
