//! The browser's refresh cookie. It is read by `/api/auth/refresh` and `/api/auth/logout` alone.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};

const NAME: &str = "netra_refresh";

/// The refresh token of the cookie, if the browser sent one.
pub(crate) fn read(headers: &HeaderMap) -> Option<String> {
    let all = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut pairs = all
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs
        .find(|(name, value)| *name == NAME && !value.is_empty())
        .map(|(_, value)| value.to_owned())
}

/// The header that keeps a refresh token. `token` is our own base64, so it needs no quoting.
pub(crate) fn keep(token: &str, life: Duration, secure: bool) -> Option<HeaderValue> {
    write(token, life.as_secs(), secure)
}

/// The header that takes the cookie away.
pub(crate) fn forget(secure: bool) -> Option<HeaderValue> {
    write("", 0, secure)
}

fn write(value: &str, max_age_s: u64, secure: bool) -> Option<HeaderValue> {
    let secure = if secure { "; Secure" } else { "" };
    let text = format!(
        "{NAME}={value}; Path=/api/auth; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}"
    );
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::COOKIE, HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let found = read(&headers(&["a=b; netra_refresh=tok_1; c=d"]));
        assert_eq!(found.as_deref(), Some("tok_1"));
        assert_eq!(
            read(&headers(&["a=b", "netra_refresh=x"])).as_deref(),
            Some("x")
        );
        for none in [
            "",
            "netra_refresh",
            "netra_refresh=",
            "xnetra_refresh=1",
            "a=netra_refresh=1",
        ] {
            assert_eq!(read(&headers(&[none])), None, "{none}");
        }
    }

    #[test]
    fn the_cookie_is_for_the_server_alone() {
        let value = keep("abc", Duration::from_secs(60), true).unwrap();
        assert_eq!(
            value.to_str().unwrap(),
            "netra_refresh=abc; Path=/api/auth; Max-Age=60; HttpOnly; SameSite=Strict; Secure"
        );
        assert!(
            forget(false)
                .unwrap()
                .to_str()
                .unwrap()
                .contains("netra_refresh=; ")
        );
    }
}
