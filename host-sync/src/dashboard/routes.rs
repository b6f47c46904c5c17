//! The routes: one table that says of each what it takes to get there, and a guard in front of every one of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequestParts, Json, Path, RawPathParams, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::assets::{Page, secure};
use super::facts::Facts;
use super::rights::{Visible, may_redeploy};
use super::sessions::{LIFETIME, Session};
use super::{Dashboard, cookies, events, views};
use crate::audit;

/// The header that a write brings its token in.
const CSRF_HEADER: &str = "x-scout-csrf";
/// How large a request's body may be, in bytes: a bearer token, at most.
const BODY_MAX: usize = 64 * 1024;

/// How much of the end of the audit trail is shown, in bytes.
const AUDIT_BYTES: u64 = 256 * 1024;

/// What it takes to get somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Nothing: the way to sign in.
    Public,
    /// A session whose user may get an App; a page sends everybody else to sign in.
    Page,
    /// The same; everybody else is refused.
    Read,
    /// A session and its token against forged requests.
    SignOut,
    /// All of that, and the right to update the App that the path names.
    Redeploy,
}

struct Route {
    #[cfg(test)]
    method: axum::http::Method,
    path: &'static str,
    access: Access,
    handler: MethodRouter<Dashboard>,
}

fn routes() -> Vec<Route> {
    let read = |path, access, handler| Route {
        #[cfg(test)]
        method: axum::http::Method::GET,
        path,
        access,
        handler,
    };
    let write = |path, access, handler| Route {
        #[cfg(test)]
        method: axum::http::Method::POST,
        path,
        access,
        handler,
    };
    vec![
        read("/sign-in", Access::Public, get(sign_in_page)),
        write("/api/sign-in", Access::Public, post(sign_in)),
        read("/static/{file}", Access::Public, get(static_file)),
        read("/", Access::Page, get(page)),
        read("/apps/{app}", Access::Page, get(page)),
        read("/workloads/{namespace}/{kind}/{name}", Access::Page, get(page)),
        read("/stores", Access::Page, get(page)),
        read("/audit", Access::Page, get(page)),
        read("/preview", Access::Page, get(preview_page)),
        read("/api/session", Access::Read, get(session)),
        read("/api/overview", Access::Read, get(overview)),
        read("/api/apps/{app}", Access::Read, get(app)),
        read("/api/workloads/{namespace}/{kind}/{name}", Access::Read, get(workload)),
        read("/api/stores", Access::Read, get(stores)),
        read("/api/audit", Access::Read, get(audit_trail)),
        read("/api/states", Access::Read, get(states)),
        read("/api/states/{namespace}", Access::Read, get(state)),
        read("/api/events", Access::Read, get(news)),
        write("/api/sign-out", Access::SignOut, post(sign_out)),
        write("/api/apps/{app}/redeploy", Access::Redeploy, post(redeploy)),
    ]
}

/// The dashboard's routes, each behind its guard.
pub fn router(dashboard: Dashboard) -> Router {
    let guarded = routes().into_iter().fold(Router::new(), |router, route| {
        let guarded = route.handler.layer(from_fn_with_state((dashboard.clone(), route.access), guard));
        router.route(route.path, guarded)
    });
    guarded
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(from_fn(|request: Request, next: Next| async move {
            let mut response = next.run(request).await;
            secure(response.headers_mut());
            response
        }))
        .with_state(dashboard)
}

/// Somebody who has passed the guard.
#[derive(Clone)]
struct Viewer {
    cookie: String,
    session: Session,
    visible: Arc<Visible>,
    facts: Arc<Facts>,
}

fn refuse(status: StatusCode, message: impl Into<String>) -> Response {
    (status, Json(json!({"error": message.into()}))).into_response()
}

fn unanswered(error: &anyhow::Error) -> Response {
    tracing::warn!("the dashboard: {error:#}");
    refuse(StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}"))
}

async fn guard(State((dashboard, access)): State<(Dashboard, Access)>, request: Request, next: Next) -> Response {
    if access == Access::Public {
        return next.run(request).await;
    }
    match admit(&dashboard, access, request).await {
        Ok(request) => next.run(request).await,
        Err(refusal) => refusal,
    }
}

async fn admit(dashboard: &Dashboard, access: Access, request: Request) -> Result<Request, Response> {
    let found = cookies::session(request.headers()).and_then(|cookie| {
        let session = dashboard.0.sessions.get(&cookie, Instant::now())?;
        Some((cookie, session))
    });
    let Some((cookie, session)) = found else {
        return Err(if access == Access::Page {
            Redirect::to("/sign-in").into_response()
        } else {
            refuse(StatusCode::UNAUTHORIZED, "you are not signed in, or no longer: sign in at /sign-in")
        });
    };
    if matches!(access, Access::SignOut | Access::Redeploy) {
        let brought = request.headers().get(CSRF_HEADER).and_then(|token| token.to_str().ok());
        if brought != Some(session.csrf.as_str()) {
            let message = format!("the request lacks the session's token in header {CSRF_HEADER}: reload the page");
            return Err(refuse(StatusCode::FORBIDDEN, message));
        }
    }
    let Some(facts) = dashboard.facts() else { return Err(stands_by()) };
    let visible = dashboard.rights(&cookie, &session, &facts).await.map_err(|error| unanswered(&error))?;
    if visible.is_nothing() && access != Access::SignOut {
        return Err(refuse(StatusCode::FORBIDDEN, no_rights(&session.user.name)));
    }
    let (mut parts, body) = request.into_parts();
    if access == Access::Redeploy {
        let path = RawPathParams::from_request_parts(&mut parts, &()).await;
        let path = path.map_err(IntoResponse::into_response)?;
        let app = path.iter().find(|(name, _)| *name == "app").map(|(_, app)| app.to_owned()).unwrap_or_default();
        let may = may_redeploy(dashboard.0.cluster.as_ref(), &session.user, &app).await;
        if !may.map_err(|error| unanswered(&error))? {
            let message =
                format!("{} may not redeploy App {app}: it takes update on apps.scout.commandk.dev", session.user.name);
            return Err(refuse(StatusCode::FORBIDDEN, message));
        }
    }
    parts.extensions.insert(Viewer { cookie, session, visible, facts });
    Ok(Request::from_parts(parts, body))
}

fn stands_by() -> Response {
    let message = "this host-sync has nothing to show: it has only just started, or it stands by while another replica leads \
                   (the Lease scout-host-sync in host-sync's namespace names it; forward a port to that pod)";
    refuse(StatusCode::SERVICE_UNAVAILABLE, message)
}

fn no_rights(user: &str) -> String {
    format!("{user} may not read any App: it takes get on apps.scout.commandk.dev")
}

async fn sign_in_page(State(dashboard): State<Dashboard>) -> Response {
    dashboard.0.assets.page(Page::SignIn).await
}

async fn static_file(State(dashboard): State<Dashboard>, Path(file): Path<String>) -> Response {
    dashboard.0.assets.file(&file).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignIn {
    token: String,
}

/// A bearer token for a session. A body of JSON is something that a page of another origin cannot send unasked.
async fn sign_in(
    State(dashboard): State<Dashboard>,
    peer: Option<Extension<ConnectInfo<SocketAddr>>>,
    headers: HeaderMap,
    body: Result<Json<SignIn>, JsonRejection>,
) -> Response {
    let from = peer.map_or(std::net::Ipv4Addr::LOCALHOST.into(), |Extension(ConnectInfo(address))| address.ip());
    if !dashboard.0.sessions.may_try(from, Instant::now()) {
        return refuse(StatusCode::TOO_MANY_REQUESTS, "too many tries to sign in from your address: wait a minute");
    }
    // A rejection's own words may quote the body, which holds a token.
    let Ok(Json(SignIn { token })) = body else {
        return refuse(StatusCode::BAD_REQUEST, "send the token as JSON: {\"token\": \"…\"}");
    };
    let token = token.trim();
    if token.is_empty() {
        return refuse(StatusCode::BAD_REQUEST, "paste a token: 'kubectl create token <service account>' prints one");
    }
    let Some(facts) = dashboard.facts() else { return stands_by() };
    let user = match dashboard.0.cluster.who(token).await {
        Ok(Some(user)) => user,
        Ok(None) => {
            let message = "the API server does not know this token, or it has expired: 'kubectl create token \
                           <service account>' prints a new one";
            return refuse(StatusCode::UNAUTHORIZED, message);
        }
        Err(error) => return unanswered(&error),
    };
    let name = user.name.clone();
    let cookie = match dashboard.0.sessions.begin(user, Instant::now()) {
        Ok(cookie) => cookie,
        Err(error) => return unanswered(&error),
    };
    let Some(session) = dashboard.0.sessions.get(&cookie, Instant::now()) else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "too many are signing in: try again");
    };
    match dashboard.rights(&cookie, &session, &facts).await {
        Ok(visible) if visible.is_nothing() => {
            dashboard.0.sessions.end(&cookie);
            refuse(StatusCode::FORBIDDEN, no_rights(&name))
        }
        Ok(_) => {
            tracing::info!(user = name, "signed in to the dashboard");
            let cookie = cookies::set(&cookie, LIFETIME.as_secs(), &headers);
            ([(header::SET_COOKIE, cookie)], Json(json!({"user": name}))).into_response()
        }
        Err(error) => {
            dashboard.0.sessions.end(&cookie);
            unanswered(&error)
        }
    }
}

async fn sign_out(
    State(dashboard): State<Dashboard>,
    Extension(viewer): Extension<Viewer>,
    headers: HeaderMap,
) -> Response {
    dashboard.0.sessions.end(&viewer.cookie);
    ([(header::SET_COOKIE, cookies::set("", 0, &headers))], Json(json!({}))).into_response()
}

async fn page(State(dashboard): State<Dashboard>) -> Response {
    dashboard.0.assets.page(Page::Any).await
}

async fn preview_page(State(dashboard): State<Dashboard>) -> Response {
    if dashboard.0.assets.has_preview() {
        dashboard.0.assets.page(Page::Preview).await
    } else {
        refuse(StatusCode::NOT_FOUND, "this host-sync was started without the preview's module (--preview-folder)")
    }
}

async fn session(State(dashboard): State<Dashboard>, Extension(viewer): Extension<Viewer>) -> Response {
    let left = viewer.session.ends.saturating_duration_since(Instant::now()).as_secs();
    let preview = dashboard.0.assets.has_preview();
    let session = json!({
        "user": viewer.session.user.name, "csrf": viewer.session.csrf, "secondsLeft": left, "preview": preview,
        "audit": dashboard.0.audit_trail.is_some(),
        "version": env!("CARGO_PKG_VERSION"),
    });
    Json(session).into_response()
}

async fn overview(Extension(viewer): Extension<Viewer>) -> Response {
    Json(views::overview::overview(&viewer.facts, &viewer.visible)).into_response()
}

async fn app(
    State(dashboard): State<Dashboard>,
    Extension(viewer): Extension<Viewer>,
    Path(name): Path<String>,
) -> Response {
    if !viewer.visible.apps.contains(&name) {
        return unknown("App", &name);
    }
    let may = match may_redeploy(dashboard.0.cluster.as_ref(), &viewer.session.user, &name).await {
        Ok(may) => may,
        Err(error) => return unanswered(&error),
    };
    match views::app::app(&viewer.facts, &name, &viewer.visible, may) {
        Some(page) => Json(page).into_response(),
        None => unknown("App", &name),
    }
}

/// The same words for what is not there and for what one may not read: neither tells of the other.
fn unknown(kind: &str, name: &str) -> Response {
    refuse(
        StatusCode::NOT_FOUND,
        format!("{kind} {name} does not exist, Scout has nothing to do with it, or you may not read it"),
    )
}

async fn workload(
    Extension(viewer): Extension<Viewer>,
    Path((namespace, kind, name)): Path<(String, String, String)>,
) -> Response {
    match views::workload::workload(&viewer.facts, (&namespace, &kind, &name), &viewer.visible) {
        Some(page) => Json(page).into_response(),
        None => unknown(&kind, &format!("{namespace}/{name}")),
    }
}

async fn stores(Extension(viewer): Extension<Viewer>) -> Response {
    Json(views::stores::stores(&viewer.facts, &viewer.visible)).into_response()
}

async fn audit_trail(State(dashboard): State<Dashboard>, Extension(viewer): Extension<Viewer>) -> Response {
    let Some(path) = dashboard.0.audit_trail.clone() else {
        return refuse(StatusCode::NOT_FOUND, "this host-sync writes no audit trail (--audit-trail)");
    };
    let read = tokio::task::spawn_blocking(move || audit::newest(&path, AUDIT_BYTES)).await;
    match read {
        Ok(Ok(lines)) => Json(json!({ "lines": views::audit::audit(lines, &viewer.visible) })).into_response(),
        Ok(Err(error)) => unanswered(&error.into()),
        Err(error) => unanswered(&error.into()),
    }
}

async fn states(Extension(viewer): Extension<Viewer>) -> Response {
    let namespaces: Vec<_> =
        viewer.facts.states.keys().filter(|name| viewer.visible.namespaces.contains(name)).collect();
    Json(json!({ "namespaces": namespaces })).into_response()
}

/// A namespace's desired state as the policy reads it: names, keys and revisions, which a Deployment's pod template shows
/// to whoever may read that.
async fn state(Extension(viewer): Extension<Viewer>, Path(namespace): Path<String>) -> Response {
    let state = viewer.facts.states.get(&namespace).filter(|_| viewer.visible.namespaces.contains(&namespace));
    let Some(state) = state else { return unknown("the desired state of namespace", &namespace) };
    match state.to_data() {
        Ok(data) => Json(json!({"data": data})).into_response(),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

async fn news(State(dashboard): State<Dashboard>, Extension(viewer): Extension<Viewer>) -> Response {
    events::events(dashboard, viewer.cookie, viewer.session.ends).into_response()
}

async fn redeploy(
    State(dashboard): State<Dashboard>,
    Extension(viewer): Extension<Viewer>,
    Path(app): Path<String>,
) -> Response {
    if !viewer.visible.apps.contains(&app) || !viewer.facts.apps.contains_key(&app) {
        return unknown("App", &app);
    }
    let request = Timestamp::now().to_string();
    match dashboard.0.cluster.redeploy(&app, &request, &viewer.session.user).await {
        Ok(()) => {
            tracing::info!(app, request, user = viewer.session.user.name, "redeploy asked for on the dashboard");
            Json(json!({"request": request})).into_response()
        }
        Err(error) => unanswered(&error),
    }
}

#[cfg(test)]
#[path = "routes_test.rs"]
mod tests;
