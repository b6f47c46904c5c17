//! The main job, shown: a throw-away Kubernetes, a sample app that knows nothing of Scout, and a secret that changes.

mod descendants;
mod sample;
mod screen;
mod story;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use e2e::cluster::Cluster;
use e2e::installation::{Installation, Options};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use screen::Screen;
use story::Story;

/// Shows what Scout does, on a throw-away Kubernetes, with what is truly read back from it.
#[derive(Debug, Parser)]
#[command(
    name = "demo",
    long_about = "Shows what Scout does, on a throw-away Kubernetes, with what is truly read back from it.\n\n\
        It builds what is missing, starts etcd, kube-apiserver, kube-controller-manager, kube-scheduler and a node on this \
        machine's loopback, serves the policy behind a real admission webhook, runs host-sync on a folder of files, and deploys a \
        sample app whose manifest knows nothing of Scout. Then a secret is delivered, injected, changed in its file, and seen in \
        the containers: as a variable, by a rollout, and as a file, in the same pod. Every line marked 'ok' was read from the \
        cluster or from a container and compared with what it should be.\n\n\
        Afterwards everything stays up, for you to try, until Ctrl-C takes every process and file down.",
    after_help = "A real node, on which containers truly run, needs root and Debian's packages containerd, runc, \
        containernetworking-plugins and busybox-static. Without it pods run on fake nodes, and the demo says what it then cannot \
        show.\n\n\
        Environment:\n  \
        KUBEBUILDER_ASSETS  a folder with the programs of a Kubernetes that you have already\n  \
        SCOUT_E2E_KEEP=1    keep the cluster's files, logs among them, at the end\n  \
        TMPDIR              where the cluster's files are\n  \
        NO_COLOR=1          no colour on a terminal either\n\n\
        Examples:\n  \
        make demo                            the story, and everything left up\n  \
        make demo ARGS=--once                the story, and nothing left\n  \
        sudo -E env PATH=\"$PATH\" make demo   with a real node\n\n\
        Exit codes: 0 everything read back was right, 1 something was not or failed, 2 the command line is wrong, \
        130 or 143 stopped by Ctrl-C or SIGTERM before the end of the story."
)]
struct Arguments {
    /// End when the story is told, and leave nothing
    #[arg(long)]
    once: bool,
    /// Run pods on fake nodes even where a real node could run
    #[arg(long)]
    fake_nodes: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let screen = Screen::new();
    // Clients complain of every answer that a control plane gives while it starts.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("e2e=error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(screen.colour()).with_writer(std::io::stderr).init();
    let outcome = descendants::adopt_orphans().and_then(|()| {
        let runtime = Runtime::new().context("starting the runtime")?;
        runtime.block_on(run(&arguments, &screen))
    });
    descendants::end_all();
    outcome.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "\ndemo: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(arguments: &Arguments, screen: &Screen) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let obstacle = if arguments.fake_nodes {
        Some("--fake-nodes asks for none".to_owned())
    } else {
        Cluster::real_node_obstacle()
    };
    // What a future that is dropped has started goes down with it.
    let scout = tokio::select! {
        started = start(screen, obstacle.as_deref()) => started.with_context(|| screen.place())?,
        signal = signals.next() => {
            descendants::end_all();
            screen.print("")?;
            screen.progress("stopped before it was up; nothing is left")?;
            return Ok(signal.exit_code());
        }
    };
    let story = Story { scout: &scout, screen, real: obstacle.is_none() };
    let told = tokio::select! {
        told = story.tell() => told.map(|()| None).with_context(|| screen.place()),
        signal = signals.next() => Ok(Some(signal)),
    };
    if matches!(told, Ok(None)) && !arguments.once {
        story.invite()?;
        signals.next().await;
    }
    let gone = take_down(scout, screen).await;
    // What went wrong first matters most.
    let interrupted = told?;
    gone?;
    Ok(interrupted.map_or(ExitCode::SUCCESS, StopAsked::exit_code))
}

async fn start(screen: &Screen, obstacle: Option<&str>) -> Result<Installation> {
    screen.step(
        "A throw-away Kubernetes, with Scout in it",
        "Everything below runs on this machine's loopback and is gone at the end.",
    )?;
    let real_node = obstacle.is_none();
    if let Some(obstacle) = obstacle {
        screen.fact("no real node", obstacle)?;
        screen.fact("", "so pods run on fake nodes: rollouts are real, containers are not.")?;
        screen.fact("not shown then", "what a container prints, and the file inside it; in their place,")?;
        screen.fact("", "what the pod refers to is read from the Secret.")?;
    }
    let options = Options { real_node, fake_nodes: usize::from(!real_node), ..Options::default() };
    let scout = Installation::start(options, &|what| {
        // A closed standard output ends the story at its next line.
        let _ = screen.progress(what);
    })
    .await?;
    screen.progress("everything is up")?;
    screen.print("")?;
    for node in scout.list_everywhere("Node").await? {
        let text =
            |pointer: &str| node.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let runtime =
            format!("{} {}", text("/status/nodeInfo/kubeletVersion"), text("/status/nodeInfo/containerRuntimeVersion"));
        let sort = if real_node { runtime } else { "a fake node (kwok)".to_owned() };
        screen.fact(&format!("node {}", text("/metadata/name")), &sort)?;
    }
    screen.fact("policy", &scout.policy_host().url())?;
    screen.fact("file store", &scout.store().display().to_string())?;
    screen.fact("kubeconfig", &scout.cluster().kubeconfig().display().to_string())?;
    Ok(scout)
}

/// Takes everything down, and sees to it that it is.
async fn take_down(scout: Installation, screen: &Screen) -> Result<()> {
    screen.print("")?;
    screen.progress("taking everything down")?;
    let (folder, processes) = (scout.cluster().dir().to_owned(), scout.cluster().process_ids());
    scout.stop().await.context("taking everything down")?;
    let running = processes.iter().filter(|id| std::path::Path::new(&format!("/proc/{id}")).exists()).count();
    ensure!(running == 0, "{running} of the cluster's processes still run: {processes:?}");
    let kept = std::env::var_os("SCOUT_E2E_KEEP").is_some_and(|keep| !keep.is_empty() && keep != "0");
    if !kept {
        ensure!(!folder.exists(), "{} is still there", folder.display());
        screen.progress(&format!("every process has ended, {} is gone", folder.display()))?;
    }
    Ok(())
}

/// The three ways in which a user or a system asks a program to stop.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

/// Which one it was.
#[derive(Debug, Clone, Copy)]
struct StopAsked(u8);

impl StopAsked {
    /// 128 and the signal's number, as shells count.
    fn exit_code(self) -> ExitCode {
        ExitCode::from(128 + self.0)
    }
}

impl Signals {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("listening for Ctrl-C and SIGTERM");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> StopAsked {
        tokio::select! {
            _ = self.interrupt.recv() => StopAsked(2),
            _ = self.terminate.recv() => StopAsked(15),
            _ = self.hang_up.recv() => StopAsked(1),
        }
    }
}
