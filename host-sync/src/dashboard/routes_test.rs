use std::sync::Mutex;

use anyhow::Result;
use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::http::Method;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::super::Files;
use super::super::cluster::{Attempt, Cluster, User};
use super::super::facts::{Publisher, channel};
use super::super::views::tests::facts;
use super::*;

/// Knows the tokens `admin` (everything), `shop` (gets App checkout and reads namespace shop), `reader` (gets every App
/// and reads every namespace) and `nobody` (nothing).
#[derive(Default)]
struct Known(Mutex<Vec<String>>);

#[async_trait]
impl Cluster for Known {
    async fn who(&self, token: &str) -> Result<Option<User>> {
        let known = ["admin", "shop", "reader", "nobody"].contains(&token);
        Ok(known.then(|| User { name: token.to_owned(), ..User::default() }))
    }

    async fn may(&self, user: &User, attempt: &Attempt) -> Result<bool> {
        Ok(match (user.name.as_str(), attempt.verb) {
            ("admin", _) | ("reader", "get") => true,
            ("shop", "get") => match attempt.resource {
                "apps" => attempt.name.as_deref() == Some("checkout"),
                "deployments" => attempt.namespace.as_deref() == Some("shop"),
                _ => false,
            },
            _ => false,
        })
    }

    async fn redeploy(&self, app: &str, _: &str, _: &User) -> Result<()> {
        self.0.lock().unwrap().push(app.to_owned());
        Ok(())
    }
}

struct Served {
    router: Router,
    cluster: Arc<Known>,
    dashboard: Dashboard,
    publisher: Publisher,
    stop: CancellationToken,
}

fn serve() -> Served {
    serve_with(Files::default())
}

fn serve_with(files: Files) -> Served {
    let (publisher, latest) = channel();
    publisher.publish(facts());
    let (cluster, stop) = (Arc::new(Known::default()), CancellationToken::new());
    let dashboard = Dashboard::new(latest, cluster.clone(), files, stop.clone());
    Served { router: router(dashboard.clone()), cluster, dashboard, publisher, stop }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Served {
    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let stream = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
        let body = if stream { Vec::new() } else { to_bytes(response.into_body(), 1 << 24).await.unwrap().to_vec() };
        Answer { status, headers, body: serde_json::from_slice(&body).unwrap_or_default() }
    }

    async fn try_token(&self, token: &str) -> Answer {
        let body = json!({"token": token}).to_string();
        self.send(Method::POST, "/api/sign-in", &[("content-type", "application/json")], &body).await
    }

    async fn sign_in(&self, token: &str) -> String {
        let answer = self.try_token(token).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        cookie.split(';').next().unwrap().to_owned()
    }

    async fn get(&self, path: &str, cookie: &str) -> Answer {
        self.send(Method::GET, path, &[("cookie", cookie)], "").await
    }
}

/// A path with something in each of its places.
fn filled(path: &str) -> String {
    let parts = [("{app}", "checkout"), ("{namespace}", "shop"), ("{kind}", "Deployment"), ("{name}", "api")];
    let path = parts.iter().fold(path.to_owned(), |path, (place, part)| path.replace(place, part));
    path.replace("{file}", "style.css")
}

#[tokio::test]
async fn every_route_but_the_way_to_sign_in_refuses_who_is_not_signed_in() {
    let served = serve();
    let open: Vec<_> =
        routes().into_iter().filter(|route| route.access == Access::Public).map(|one| one.path).collect();
    assert_eq!(open, ["/sign-in", "/api/sign-in", "/static/{file}"]);
    for route in routes().into_iter().filter(|route| route.access != Access::Public) {
        for cookie in ["", "scout-session=", "scout-session=0000"] {
            let answer = served.send(route.method.clone(), &filled(route.path), &[("cookie", cookie)], "").await;
            if route.access == Access::Page {
                assert_eq!(answer.headers[header::LOCATION], "/sign-in", "{}", route.path);
                assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", route.path);
            } else {
                assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", route.path);
            }
            assert!(answer.body.get("error").is_some() || answer.body.is_null(), "{}", route.path);
        }
    }
    assert!(served.cluster.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn every_route_refuses_who_is_signed_in_and_may_read_nothing() {
    let served = serve();
    let nobody = User { name: "nobody".into(), ..User::default() };
    let cookie = served.dashboard.0.sessions.begin(nobody, Instant::now()).unwrap();
    let csrf = served.dashboard.0.sessions.get(&cookie, Instant::now()).unwrap().csrf;
    let cookie = format!("scout-session={cookie}");
    for route in routes().into_iter().filter(|route| !matches!(route.access, Access::Public | Access::SignOut)) {
        let headers = [("cookie", cookie.as_str()), ("x-scout-csrf", csrf.as_str())];
        let answer = served.send(route.method.clone(), &filled(route.path), &headers, "").await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", route.path);
        assert!(answer.body["error"].as_str().unwrap().contains("get on apps.scout.commandk.dev"), "{}", route.path);
    }
    assert!(served.cluster.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn every_route_serves_who_may() {
    let served = serve();
    let cookie = served.sign_in("admin").await;
    let csrf = served.get("/api/session", &cookie).await.body["csrf"].as_str().unwrap().to_owned();
    let (last, others): (Vec<_>, Vec<_>) = routes().into_iter().partition(|route| route.access == Access::SignOut);
    for route in others.into_iter().filter(|route| route.path != "/api/sign-in").chain(last) {
        let headers = [("cookie", cookie.as_str()), ("x-scout-csrf", csrf.as_str())];
        let answer = served.send(route.method.clone(), &filled(route.path), &headers, "").await;
        // There is no preview module and no audit trail here.
        let expected =
            if ["/preview", "/api/audit"].contains(&route.path) { StatusCode::NOT_FOUND } else { StatusCode::OK };
        assert_eq!(answer.status, expected, "{} {}", route.path, answer.body);
        for name in ["content-security-policy", "x-content-type-options", "x-frame-options", "referrer-policy"] {
            assert!(answer.headers.contains_key(name), "{} lacks {name}", route.path);
        }
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store", "{}", route.path);
    }
    assert_eq!(served.get("/api/overview", &cookie).await.status, StatusCode::UNAUTHORIZED, "signed out");
}

#[tokio::test]
async fn a_token_that_is_unknown_or_has_no_rights_signs_nobody_in() {
    let served = serve();
    let unknown = served.try_token("guess").await;
    assert_eq!(unknown.status, StatusCode::UNAUTHORIZED);
    assert!(unknown.body["error"].as_str().unwrap().contains("kubectl create token"));
    let nobody = served.try_token("nobody").await;
    assert_eq!(nobody.status, StatusCode::FORBIDDEN);
    assert!(nobody.body["error"].as_str().unwrap().contains("get on apps.scout.commandk.dev"));
    for answer in [unknown, nobody] {
        assert!(!answer.headers.contains_key(header::SET_COOKIE));
    }
}

#[tokio::test]
async fn a_replica_that_stands_by_says_so() {
    let (_publisher, latest) = channel();
    let dashboard = Dashboard::new(latest, Arc::new(Known::default()), Files::default(), CancellationToken::new());
    let standing_by = Served { router: router(dashboard), ..serve() };
    let answer = standing_by.try_token("admin").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.body["error"].as_str().unwrap().contains("Lease scout-host-sync"));
}

#[tokio::test]
async fn a_form_of_another_page_signs_nobody_in() {
    let answer = serve().send(Method::POST, "/api/sign-in", &[], r#"{"token":"admin"}"#).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(!answer.body.to_string().contains("admin"));
}

#[tokio::test]
async fn who_tries_too_often_has_to_wait() {
    let served = serve();
    for _ in 0..10 {
        assert_eq!(served.try_token("guess").await.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(served.try_token("admin").await.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn a_redeploy_takes_the_right_to_update_and_the_sessions_token() {
    let served = serve();
    let path = "/api/apps/checkout/redeploy";
    let admin = served.sign_in("admin").await;
    let forged = served.send(Method::POST, path, &[("cookie", &admin)], "").await;
    assert_eq!(forged.status, StatusCode::FORBIDDEN);

    let reader = served.sign_in("reader").await;
    let session = served.get("/api/session", &reader).await.body;
    let headers = [("cookie", reader.as_str()), ("x-scout-csrf", session["csrf"].as_str().unwrap())];
    let refused = served.send(Method::POST, path, &headers, "").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.body["error"].as_str().unwrap().contains("update on apps.scout.commandk.dev"));
    assert_eq!(served.get("/api/apps/checkout", &reader).await.body["mayRedeploy"], false);
    assert!(served.cluster.0.lock().unwrap().is_empty());

    let session = served.get("/api/session", &admin).await.body;
    let headers = [("cookie", admin.as_str()), ("x-scout-csrf", session["csrf"].as_str().unwrap())];
    assert_eq!(served.send(Method::POST, path, &headers, "").await.status, StatusCode::OK);
    assert_eq!(served.get("/api/apps/checkout", &admin).await.body["mayRedeploy"], true);
    let unknown = served.send(Method::POST, "/api/apps/unknown/redeploy", &headers, "").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert_eq!(*served.cluster.0.lock().unwrap(), ["checkout"]);
}

#[tokio::test]
async fn an_answer_holds_nothing_of_a_namespace_that_its_viewer_may_not_read() {
    let served = serve();
    let cookie = served.sign_in("shop").await;
    for path in
        ["/api/overview", "/api/apps/checkout", "/api/workloads/shop/Deployment/api", "/api/stores", "/api/states"]
    {
        let answer = served.get(path, &cookie).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert!(!answer.body.to_string().contains("hidden\""), "{path}: {}", answer.body);
    }
    for path in ["/api/workloads/hidden/Deployment/api", "/api/states/hidden"] {
        assert_eq!(served.get(path, &cookie).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(served.get("/api/stores", &cookie).await.body["stores"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn only_the_preview_page_may_run_webassembly() {
    let folder = std::env::temp_dir().join(format!("scout-preview-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for file in ["policy_preview.js", "policy_preview_bg.wasm"] {
        std::fs::write(folder.join(file), "").unwrap();
    }
    let served = serve_with(Files { preview: Some(folder.clone()), audit_trail: None });
    let cookie = served.sign_in("admin").await;
    let policy = async |path: &str| {
        let answer = served.get(path, &cookie).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        answer.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned()
    };
    assert!(policy("/preview").await.contains("'wasm-unsafe-eval'"));
    for path in ["/", "/apps/checkout", "/stores", "/sign-in"] {
        let policy = policy(path).await;
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; "), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_stream_of_news_ends_when_host_sync_stops_and_tells_no_content() {
    use futures::StreamExt;
    let served = serve();
    let cookie = served.sign_in("shop").await;
    let request = Request::builder().uri("/api/events").header("cookie", &cookie).body(Body::empty()).unwrap();
    let response = served.router.clone().oneshot(request).await.unwrap();
    let mut body = response.into_body().into_data_stream();
    assert!(body.next().await.unwrap().unwrap().starts_with(b"event: hello\n"));
    served.publisher.publish(super::super::facts::Facts::default());
    assert_eq!(body.next().await.unwrap().unwrap(), "event: changed\ndata: facts\n\n");
    served.stop.cancel();
    assert!(body.next().await.is_none());
}
