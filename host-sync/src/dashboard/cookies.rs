//! The session's cookie.

use axum::http::{HeaderMap, header};

/// Its name.
const NAME: &str = "scout-session";

/// Its value in a request.
pub(super) fn session(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == NAME).map(|(_, value)| value.to_owned())
}

/// The header that sets it, for so many seconds. `Secure` where the browser came by TLS, which ends before host-sync.
pub(super) fn set(value: &str, seconds: u64, headers: &HeaderMap) -> String {
    let by_tls = headers.get("x-forwarded-proto").is_some_and(|protocol| protocol == "https");
    let secure = if by_tls { "; Secure" } else { "" };
    format!("{NAME}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        assert_eq!(session(&headers), None);
        headers.insert(header::COOKIE, HeaderValue::from_static("a=b; scout-session=abc; c=d"));
        assert_eq!(session(&headers).as_deref(), Some("abc"));
    }

    #[test]
    fn the_cookie_is_secure_where_the_browser_came_by_tls() {
        let mut headers = HeaderMap::new();
        assert_eq!(set("abc", 60, &headers), "scout-session=abc; Path=/; Max-Age=60; HttpOnly; SameSite=Strict");
        headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
        assert!(set("abc", 60, &headers).ends_with("; Secure"));
    }
}
