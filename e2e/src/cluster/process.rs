//! Child processes that never outlive their owner, however it ends.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a process with a lifeline may take to end by itself before it is killed.
const GRACE: Duration = Duration::from_secs(15);

/// A command to spawn, and where the answer goes.
type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// One running child and the file that its output goes to.
pub(crate) struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    lifeline: Option<ChildStdin>,
}

/// A command that the kernel kills as soon as this process ends, even by SIGKILL.
pub(crate) fn bound_to_owner(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

impl Process {
    /// Starts a command made by [`bound_to_owner`], its output going to `<name>.log` in `logs`.
    pub(crate) fn start(name: &str, command: Command, logs: &Path) -> Result<Self> {
        Self::launch(name, command, logs, Stdio::null())
    }

    /// As [`Process::start`], for a program that ends by itself when its standard input closes.
    pub(crate) fn start_with_lifeline(name: &str, command: Command, logs: &Path) -> Result<Self> {
        Self::launch(name, command, logs, Stdio::piped())
    }

    fn launch(name: &str, mut command: Command, logs: &Path, input: Stdio) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let errors = output.try_clone().with_context(|| format!("opening {} twice", log.display()))?;
        // Its own process group: a Ctrl-C in the terminal reaches the owner, who takes everything down in order.
        command.stdin(input).stdout(output).stderr(errors).process_group(0);
        let mut child = spawn(command).with_context(|| {
            format!("starting {name} through 'setpriv' (part of util-linux: install it where it is missing)")
        })?;
        let lifeline = child.stdin.take();
        Ok(Self { name: name.to_owned(), log, child, lifeline })
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// An error that holds the last lines of its log, if the process has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait().with_context(|| format!("asking after {}", self.name))? {
            None => Ok(()),
            Some(status) => bail!("{} ended early ({status}); its last lines:\n{}", self.name, tail(&self.log)),
        }
    }

    /// Ends the process and waits until it is gone.
    pub(crate) fn stop(&mut self) {
        if self.lifeline.take().is_some() {
            let end = Instant::now() + GRACE;
            while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
                thread::sleep(Duration::from_millis(10));
            }
        }
        // Nothing here is worth an orderly end: the data goes with the directory. An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Asks the process to end (SIGTERM) and waits; one that does not is killed, and that is an error.
    pub(crate) fn terminate(&mut self, patience: Duration) -> Result<()> {
        let id = i32::try_from(self.id()).context("reading a process id")?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGTERM)
            .with_context(|| format!("asking {} to end", self.name))?;
        let end = Instant::now() + patience;
        while Instant::now() < end {
            match self.child.try_wait().with_context(|| format!("asking after {}", self.name))? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("{} ended with {status}", self.name),
                None => thread::sleep(Duration::from_millis(10)),
            }
        }
        self.stop();
        bail!("{} did not end within {} s and was killed", self.name, patience.as_secs())
    }
}

/// Everything that one cluster runs, in the order of its start.
#[derive(Default)]
pub(crate) struct Processes(Mutex<Vec<Process>>);

impl Processes {
    fn list(&self) -> MutexGuard<'_, Vec<Process>> {
        // A panic elsewhere must not keep the processes from being killed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, process: Process) {
        self.list().push(process);
    }

    pub(crate) fn ids(&self) -> Vec<u32> {
        self.list().iter().map(Process::id).collect()
    }

    /// An error if any of them has ended.
    pub(crate) fn check(&self) -> Result<()> {
        self.list().iter_mut().try_for_each(Process::check)
    }

    /// Ends them all, the last started first.
    pub(crate) fn stop(&self) {
        for mut process in self.list().drain(..).rev() {
            process.stop();
        }
    }
}

/// The last lines of a log, for an error message.
pub(crate) fn tail(log: &Path) -> String {
    const LINES: usize = 12;
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    format!("{}\n(all of it: {})", lines[lines.len().saturating_sub(LINES)..].join("\n"), log.display())
}

/// Spawns from a thread that lives as long as this process: the kernel ties a parent-death signal to the thread that
/// spawned, so a child of a tokio worker or of a test's own thread would die with that thread.
fn spawn(command: Command) -> io::Result<Child> {
    static ORDERS: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in orders {
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    let (answer, spawned) = mpsc::channel();
    orders.send((command, answer)).map_err(io::Error::other)?;
    spawned.recv().map_err(io::Error::other)?
}
