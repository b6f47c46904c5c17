//! `redeploy`: asks for a delivery now, and follows it until every workload that follows has it.

mod progress;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use policy_core::names::REDEPLOY_ANNOTATION;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::cluster;
use super::output::{self, counted};
use crate::api::App;
use crate::cli::RedeployArguments;

use progress::{Progress, Request};

/// How often to look.
const LOOK: Duration = Duration::from_millis(500);
/// The exit code of a command that Ctrl-C ended.
pub(super) const INTERRUPTED: u8 = 130;

/// Asks for the delivery and follows it; returns the exit code.
pub(super) async fn run(client: &Client, arguments: &RedeployArguments) -> Result<u8> {
    let app = &arguments.app;
    let before = cluster::read_apps(client, Some(app)).await?;
    let Some(before) = before.first() else { bail!("App {app} does not exist") };
    if let Err(error) = &before.config {
        bail!("App {app} cannot be delivered: {error}");
    }
    // Nobody else asks in the same nanosecond; any new value is a request.
    let value = Timestamp::now().to_string();
    ask(client, app, &value).await?;
    if !arguments.wait() {
        output::print(&format!("App {app}: a delivery is asked for; 'status {app}' shows what becomes of it\n"))?;
        return Ok(0);
    }
    let request = Request::new(value, &before.status);
    tokio::select! {
        code = follow(client, arguments, &request) => code,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.context("listening for Ctrl-C")?;
            output::say(&format!("\nthe delivery of App {app} goes on in the cluster; 'status {app} --watch' shows it"));
            Ok(INTERRUPTED)
        }
    }
}

async fn ask(client: &Client, app: &str, value: &str) -> Result<()> {
    let api: Api<App> = Api::all(client.clone());
    let patch = json!({"metadata": {"annotations": {REDEPLOY_ANNOTATION: value}}});
    let asked = api.patch_metadata(app, &PatchParams::default(), &Patch::Merge(&patch)).await;
    asked.with_context(|| format!("annotating App {app} with {REDEPLOY_ANNOTATION}"))?;
    Ok(())
}

async fn follow(client: &Client, arguments: &RedeployArguments, request: &Request) -> Result<u8> {
    let mut display = Display::new();
    let end = Instant::now() + arguments.timeout;
    loop {
        let facts = cluster::read(client, &arguments.scout.scout_namespace, Some(&arguments.app), None).await?;
        let progress = progress::progress(&facts, &arguments.app, request);
        display.show(&progress);
        if !progress.failed.is_empty() {
            display.end();
            bail!("the delivery of App {} failed: {}", arguments.app, progress.failed.join("; "));
        }
        if progress.is_done() {
            display.end();
            output::print(&progress.summary(&arguments.app))?;
            return Ok(0);
        }
        if Instant::now() >= end {
            display.end();
            let seconds = arguments.timeout.as_secs();
            bail!(
                "after {seconds} s App {} still waits, and goes on in the cluster: {}",
                arguments.app,
                progress.waits_for()
            );
        }
        sleep(LOOK).await;
    }
}

/// A bar on a terminal; elsewhere a line for each thing that changes.
struct Display {
    bar: Option<ProgressBar>,
    said: BTreeSet<String>,
}

impl Display {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let style = ProgressStyle::with_template("{spinner} [{bar:30}] {pos}/{len} {wide_msg}");
            if let Ok(style) = style {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar, said: BTreeSet::new() }
    }

    fn show(&mut self, progress: &Progress) {
        for line in progress.lines() {
            if self.said.insert(line.clone()) {
                match &self.bar {
                    Some(bar) => bar.println(line),
                    None => output::say(&line),
                }
            }
        }
        if let Some(bar) = &self.bar {
            bar.set_length(progress.total() as u64);
            bar.set_position(progress.ready() as u64);
            bar.set_message(progress.waits_for());
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Progress {
    fn summary(&self, app: &str) -> String {
        let workloads = counted(self.ready(), "workload");
        let mut text = format!("App {app} is delivered; {workloads} ready\n");
        for wait in &self.left {
            let _ = writeln!(text, "  {wait}");
        }
        text
    }
}
