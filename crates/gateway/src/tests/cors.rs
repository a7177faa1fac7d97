//! Pages of other origins: none may read an answer but those on the allow-list, and none with the browser's cookies.

use serde_json::json;

use super::*;

const PAGE: &str = "https://app.example";

fn named(origins: &[&str]) -> Vec<String> {
    origins.iter().map(|origin| (*origin).to_owned()).collect()
}

fn listing(origins: &[&str]) -> Config {
    Config {
        allowed_origins: named(origins).into(),
        ..Config::default()
    }
}

fn of_page(request: Request<Body>, page: &str) -> Request<Body> {
    with(request, "origin", page)
}

fn preflight(path: &str, page: &str, method: &str) -> Request<Body> {
    let asks = of_page(request(Method::OPTIONS, path, None, None), page);
    let asks = with(asks, "access-control-request-method", method);
    with(
        asks,
        "access-control-request-headers",
        "authorization,content-type",
    )
}

/// Every header that CORS knows.
fn cors(answer: &Answer) -> Vec<&str> {
    let names = answer.headers.keys().map(header::HeaderName::as_str);
    names
        .filter(|name| name.starts_with("access-control-"))
        .collect()
}

#[tokio::test]
async fn by_default_no_page_of_another_origin_reads_anything() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    let asked = edge.send(preflight("/api/threads", PAGE, "POST")).await;
    let sent = of_page(
        request(Method::GET, "/api/threads", Some(&token), None),
        PAGE,
    );
    for refused in [asked, edge.send(sent).await] {
        assert_eq!(refused.refused(), (403, "origin_refused"));
        assert_eq!(cors(&refused), [""; 0]);
    }
}

#[tokio::test]
async fn a_listed_page_asks_first_and_then_reads_answers_and_errors() {
    let edge = Edge::new(listing(&["https://other.example", PAGE]));
    let (_, token) = edge.user("anna", Role::User).await;
    let asked = edge.send(preflight("/api/threads", PAGE, "POST")).await;
    assert_eq!(asked.status, 204);
    let said = |name: &str| asked.headers[name].to_str().unwrap().to_owned();
    assert_eq!(said("access-control-allow-origin"), PAGE);
    assert!(said("access-control-allow-methods").contains("POST"));
    assert!(said("access-control-allow-headers").contains("Authorization"));
    let send = |token: Option<&str>, body| {
        let body = request(Method::POST, "/api/threads", token, Some(body));
        edge.send(of_page(body, PAGE))
    };
    let made = send(Some(&token), json!({"title": "a"})).await;
    let wrong = send(Some(&token), json!({"colour": "red"})).await;
    let stranger = send(None, json!({})).await;
    assert_eq!(made.status, 201);
    assert_eq!(wrong.refused(), (400, "unknown_field"));
    assert_eq!(stranger.refused(), (401, "unauthenticated"));
    for answer in [asked, made, wrong, stranger] {
        assert_eq!(answer.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], PAGE);
        assert_eq!(answer.headers[header::VARY], "Origin");
        let exposed = answer.headers[header::ACCESS_CONTROL_EXPOSE_HEADERS].to_str();
        assert!(exposed.unwrap().contains("RateLimit-Remaining"));
        assert!(
            !answer
                .headers
                .contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS)
        );
    }
}

#[tokio::test]
async fn beside_a_listed_page_others_are_refused_and_own_pages_need_nothing() {
    let edge = Edge::new(listing(&[PAGE]));
    let (_, token) = edge.user("anna", Role::User).await;
    for page in [
        "https://evil.example",
        "https://app.example.evil.example",
        "http://app.example",
        "https://app.example:8443",
        "null",
        "*",
    ] {
        let asked = edge.send(preflight("/api/threads", page, "GET")).await;
        assert_eq!(asked.refused(), (403, "origin_refused"), "{page}");
        assert_eq!(cors(&asked), [""; 0], "{page}");
    }
    let own = request(Method::GET, "/api/threads", Some(&token), None);
    let own = edge.send(of_page(own, "http://127.0.0.1:1")).await;
    assert_eq!((own.status.as_u16(), cors(&own).len()), (200, 0));
    // Whoever comes between must not give one page the answer to another.
    assert_eq!(own.headers[header::VARY], "Origin");
}

#[tokio::test]
async fn a_listed_page_gets_no_word_on_what_is_there_and_nothing_outside_the_interface() {
    let edge = Edge::new(listing(&[PAGE]));
    let there = edge.send(preflight("/api/threads", PAGE, "DELETE")).await;
    let nowhere = edge.send(preflight("/api/nothing", PAGE, "DELETE")).await;
    assert_eq!((there.status.as_u16(), nowhere.status.as_u16()), (204, 204));
    let page = request(Method::GET, "/", None, None);
    let page = edge.send(of_page(page, PAGE)).await;
    assert_eq!(cors(&page), [""; 0]);
    let options = request(Method::OPTIONS, "/api/threads", None, None);
    let options = edge.send(of_page(options, PAGE)).await;
    assert_eq!(
        options.status, 405,
        "OPTIONS that asks for nothing is no preflight"
    );
}

#[tokio::test]
async fn the_list_can_be_another_one_while_the_server_runs() {
    let config = listing(&[PAGE]);
    let origins = config.allowed_origins.clone();
    let edge = Edge::new(config);
    let asked = async || edge.send(preflight("/api/threads", PAGE, "POST")).await;
    assert_eq!(asked().await.status, 204);
    for others in [&["https://other.example"][..], &[]] {
        origins.set(named(others));
        let refused = asked().await;
        assert_eq!(refused.refused(), (403, "origin_refused"));
        assert_eq!(cors(&refused), [""; 0]);
    }
    origins.set(named(&["https://APP.example"]));
    assert_eq!(asked().await.headers["access-control-allow-origin"], PAGE);
}

#[tokio::test]
async fn the_cookie_is_for_the_servers_own_page_alone() {
    let mut config = listing(&[PAGE]);
    config.registration = crate::Registration::Open;
    let edge = Edge::new(config);
    let body = json!({"name": "anna", "password": PASSWORD});
    let made = edge.post("/api/auth/register", None, body.clone()).await;
    assert_eq!(made.status, 201);
    let login = |page: &str| {
        let login = request(Method::POST, "/api/auth/login", None, Some(body.clone()));
        edge.send(of_page(login, page))
    };
    let other = login(PAGE).await;
    assert_eq!(other.status, 200);
    assert!(other.body["refresh_token"].is_string());
    assert!(!other.headers.contains_key(header::SET_COOKIE));
    let own = login("http://127.0.0.1:1").await;
    let cookie = own.headers[header::SET_COOKIE].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap();
    let refresh = |page: &str| {
        let refresh = request(Method::POST, "/api/auth/refresh", None, None);
        edge.send(of_page(with(refresh, "cookie", cookie), page))
    };
    assert_eq!(refresh(PAGE).await.refused(), (401, "unauthenticated"));
    assert_eq!(refresh("http://127.0.0.1:1").await.status, 200);
}
