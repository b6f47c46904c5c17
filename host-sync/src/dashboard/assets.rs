//! The files that the browser gets, and the headers that keep it from doing anything else with them.

use std::borrow::Cow;
use std::path::PathBuf;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Names a folder with the static files, read anew for every request: for working on them without a build.
const FOLDER_VARIABLE: &str = "SCOUT_DASHBOARD_STATIC";

/// What a page may do: load scripts, styles and answers from host-sync, and nothing else.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                           base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// The preview page may run WebAssembly, too.
const PREVIEW_POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; \
                              img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; \
                              frame-ancestors 'none'";

macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("static/", $name)))),*]
    };
}

/// The static files by name.
const EMBEDDED: &[(&str, &[u8])] = embedded![
    "page.html",
    "sign-in.html",
    "style.css",
    "theme.js",
    "sign-in.js",
    "main.js",
    "dom.js",
    "format.js",
    "live.js",
    "overview.js",
    "app.js",
    "workload.js",
    "stores.js",
    "audit.js",
    "preview.js",
    "icon.svg",
];

/// What of the preview's build is served.
const PREVIEW_FILES: [&str; 2] = ["policy_preview.js", "policy_preview_bg.wasm"];

/// The files.
pub(super) struct Assets {
    folder: Option<PathBuf>,
    preview: Option<PathBuf>,
}

/// A page of the dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    /// The form that takes a token.
    SignIn,
    /// Whatever the address names.
    Any,
    /// The one that runs WebAssembly.
    Preview,
}

impl Assets {
    pub(super) fn new(preview: Option<PathBuf>) -> Self {
        Self { folder: std::env::var_os(FOLDER_VARIABLE).map(PathBuf::from), preview }
    }

    /// Whether there is a preview page.
    pub(super) fn has_preview(&self) -> bool {
        self.preview.as_ref().is_some_and(|folder| PREVIEW_FILES.iter().all(|file| folder.join(file).is_file()))
    }

    /// A page, with its policy.
    pub(super) async fn page(&self, page: Page) -> Response {
        let (file, policy) = match page {
            Page::SignIn => ("sign-in.html", PAGE_POLICY),
            Page::Any => ("page.html", PAGE_POLICY),
            Page::Preview => ("page.html", PREVIEW_POLICY),
        };
        let mut response = self.file(file).await;
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
        response
    }

    /// A static file.
    pub(super) async fn file(&self, name: &str) -> Response {
        let embedded = EMBEDDED.iter().find(|(embedded, _)| *embedded == name);
        let content = match (embedded, &self.folder, &self.preview) {
            (Some((name, _)), Some(folder), _) => tokio::fs::read(folder.join(name)).await.ok().map(Cow::Owned),
            (Some((_, bytes)), None, _) => Some(Cow::Borrowed(*bytes)),
            (None, _, Some(folder)) if PREVIEW_FILES.contains(&name) => {
                tokio::fs::read(folder.join(name)).await.ok().map(Cow::Owned)
            }
            _ => None,
        };
        let Some(content) = content else { return StatusCode::NOT_FOUND.into_response() };
        let body = match content {
            Cow::Borrowed(bytes) => Body::from(bytes),
            Cow::Owned(bytes) => Body::from(bytes),
        };
        ([(header::CONTENT_TYPE, content_type(name))], body).into_response()
    }
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("wasm") => "application/wasm",
        _ => "application/octet-stream",
    }
}

/// The headers of every answer of the dashboard.
pub(super) fn secure(headers: &mut HeaderMap) {
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        // What one viewer may see must not be shown to the next one from a cache.
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let named = [
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ];
    for (name, value) in named {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static("default-src 'none'"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_that_a_script_imports_and_a_page_names_is_embedded() {
        for (file, bytes) in EMBEDDED {
            let text = std::str::from_utf8(bytes).unwrap();
            for found in text.split("\"/static/").skip(1).chain(text.split(" from \"./").skip(1)) {
                let name = found.split('"').next().unwrap();
                let known = EMBEDDED.iter().any(|(embedded, _)| *embedded == name) || PREVIEW_FILES.contains(&name);
                assert!(known, "{file} names {name}, which is not embedded");
            }
        }
    }

    #[test]
    fn nothing_comes_from_elsewhere_and_nothing_is_inline() {
        for (file, bytes) in EMBEDDED {
            let text = std::str::from_utf8(bytes).unwrap();
            let text = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("http://") && !text.contains("https://"), "{file} names something elsewhere");
            assert!(!text.contains("innerHTML"), "{file} writes HTML");
            assert!(!text.contains(" style=\"") && !text.contains("onclick="), "{file} has something inline");
        }
    }
}
