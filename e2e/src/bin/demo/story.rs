//! The story, step by step: something is done, and what the cluster then holds is read back, shown and compared.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use e2e::installation::{Answer, Installation, container, eventually};
use e2e::manifests::namespace;
use serde_json::{Value, json};

use super::sample::{self, API, CHECKOUT, CONTAINER, ENVIRONMENT, FILE, NAMESPACE, Pod, TLS, VARIABLE, WEB};
use super::screen::{Screen, seconds};

/// Where the mutation is seen: the label that pods inherit.
const LABEL: &str = "scout.commandk.dev";
/// What Scout's Secrets can be listed by.
const MANAGED: &str = "app.kubernetes.io/managed-by=scout";

/// Who tells, and about what.
pub(crate) struct Story<'a> {
    pub(crate) scout: &'a Installation,
    pub(crate) screen: &'a Screen,
    /// Whether containers truly run.
    pub(crate) real: bool,
}

impl Story<'_> {
    /// Tells all of it; the first read-back that is wrong is the error.
    pub(crate) async fn tell(&self) -> Result<()> {
        self.knows_nothing().await?;
        let first = self.delivered().await?;
        self.injected(&first).await?;
        self.running(&first).await?;
        let rollout = self.changed(&first).await?;
        let pod = self.mounted().await?;
        let follow = self.followed(&pod).await?;
        let file = if self.real { "to the new content in the container" } else { "to the new content in the Secret" };
        self.screen.print("")?;
        self.screen.progress(&format!("the story is told: all {} read-backs were right", self.screen.right()))?;
        self.screen.text(&format!("from the saved file to the first new pod Ready: {rollout} s; {file}: {follow} s"))
    }

    async fn knows_nothing(&self) -> Result<()> {
        let (scout, screen) = (self.scout, self.screen);
        screen.step(
            "A sample app that knows nothing of Scout",
            "Its namespace belongs to an environment, by a label.\nThe Deployment's manifest has neither variables nor volumes.",
        )?;
        scout.apply(&namespace(NAMESPACE, ENVIRONMENT)).await?;
        let desired = format!("desired-state.{NAMESPACE}");
        eventually(&format!("ConfigMap {desired}"), async || {
            let found = scout.find("ConfigMap", e2e::installation::NAMESPACE, &desired).await?;
            Ok(Answer::when(found.is_some(), (), "nothing"))
        })
        .await?;
        let manifest = sample::api(self.real);
        scout.apply(&manifest).await?;
        let deployed = scout.complete(NAMESPACE, API).await?;
        screen.fact("kubectl apply", &format!("Namespace {NAMESPACE}, Deployment {NAMESPACE}/{API}"))?;
        screen.check("env of the container", entries(&container(&deployed, CONTAINER)["env"]), "none")?;
        screen.check("volumes of the template", entries(&deployed["spec"]["template"]["spec"]["volumes"]), "none")?;
        self.check_pods("", &format!("{VARIABLE}=(not set)")).await
    }

    async fn delivered(&self) -> Result<String> {
        let (scout, screen) = (self.scout, self.screen);
        screen.step(
            "An App says who gets what, and the Secret is delivered",
            "host-sync reads the file, writes an immutable Secret that is named by the content's revision, and reports.",
        )?;
        let (file, value) = (store_file(CHECKOUT, "env"), "sample-one");
        scout.save(&file, &format!("{VARIABLE}={value}\n"))?;
        scout.apply(&sample::checkout()).await?;
        self.manifest(&sample::checkout())?;
        screen.fact(&format!("saved {file}"), &format!("{VARIABLE}={value}"))?;
        let revision = scout.delivered(CHECKOUT, ENVIRONMENT, "").await?;
        screen.fact("App's status: revision", &revision)?;
        self.check_secret(&revision, value).await?;
        Ok(revision)
    }

    /// Checks the Secret that the newest revision of the App with variables was delivered in.
    async fn check_secret(&self, revision: &str, value: &str) -> Result<()> {
        let name = secret_of(revision);
        let secret = self.scout.get("Secret", NAMESPACE, &name).await?;
        self.screen.check(
            &format!("Secret {name}"),
            format!("immutable: {}", secret["immutable"]),
            "immutable: true",
        )?;
        let held = self.scout.secret_value(NAMESPACE, &name, VARIABLE).await?;
        self.screen.check(&format!("its key {VARIABLE}"), shown(held.as_deref()), value)
    }

    async fn injected(&self, revision: &str) -> Result<()> {
        let screen = self.screen;
        screen.step(
            "The policy injects it at admission",
            "host-sync touches one annotation of the Deployment, and at that UPDATE the policy edits the pod template.\nThe value stays in the Secret.",
        )?;
        let deployment = self.template_holds(revision).await?;
        self.check_variable(&deployment, revision)?;
        let label = format!("{LABEL}/{CHECKOUT}");
        screen.check(
            "label of the template",
            format!("{label}={}", label_of(&deployment)),
            format!("{label}={revision}"),
        )
    }

    fn check_variable(&self, deployment: &Value, revision: &str) -> Result<()> {
        let expected = format!("{VARIABLE}: secretKeyRef {}, key {VARIABLE}", secret_of(revision));
        self.screen.check("env of the container", entries(&container(deployment, CONTAINER)["env"]), expected)
    }

    /// Waits until the template holds a revision, whatever the pods do.
    async fn template_holds(&self, revision: &str) -> Result<Value> {
        eventually(&format!("the template of Deployment {NAMESPACE}/{API} to hold revision {revision}"), async || {
            let deployment = self.scout.get("Deployment", NAMESPACE, API).await?;
            let held = label_of(&deployment);
            Ok(Answer::when(held == revision, deployment, held))
        })
        .await
    }

    async fn running(&self, revision: &str) -> Result<()> {
        let screen = self.screen;
        let explanation = if self.real {
            "Each container printed its variable when it started; this is its log."
        } else {
            "No container runs: this is what each pod's env refers to, read from the Secret."
        };
        screen.step("The Deployment rolls, and its pods run with the value", explanation)?;
        let before = self.scout.rolled_out(NAMESPACE, API, CHECKOUT, revision).await?;
        self.check_pods(&format!("{LABEL}/{CHECKOUT}={revision}"), &format!("{VARIABLE}=sample-one")).await?;
        // What GitOps tools do all day must not take out what the policy put in.
        let after = self.scout.apply(&sample::api(self.real)).await?;
        let generation = |deployment: &Value| format!("generation {}", deployment["metadata"]["generation"]);
        screen.check("the same manifest applied again", generation(&after), generation(&before))
    }

    async fn changed(&self, first: &str) -> Result<String> {
        let (scout, screen) = (self.scout, self.screen);
        screen.step(
            "The value changes in the file, and nobody else does anything",
            "A new revision, a new Secret, a new template, one rollout. Seconds count from the saved file.\n\
             A touch waits a few seconds after the one before: quick successive changes become one rollout.",
        )?;
        let rollouts = scout.rollouts(NAMESPACE, API).await?;
        let (file, value) = (store_file(CHECKOUT, "env"), "sample-two");
        let saved = Instant::now();
        let since = || seconds(saved.elapsed());
        scout.save(&file, &format!("{VARIABLE}={value}\n"))?;
        screen.fact(&format!("saved {file}"), &format!("{VARIABLE}={value}"))?;
        let second = self.new_revision(first).await?;
        screen.fact(&format!("after {:>4} s", since()), &format!("Secret {}", secret_of(&second)))?;
        let deployment = self.template_holds(&second).await?;
        screen.fact(&format!("after {:>4} s", since()), "the template refers to it")?;
        let selector = format!("{LABEL}/{CHECKOUT}={second}");
        eventually("the first new pod to be Ready", async || {
            let ready = self.pods(API, &selector).await?;
            Ok(Answer::when(!ready.is_empty(), (), "none is"))
        })
        .await?;
        let first_ready = since();
        screen.fact(&format!("after {first_ready:>4} s"), "the first new pod is Ready")?;
        scout.rolled_out(NAMESPACE, API, CHECKOUT, &second).await?;
        screen.fact(&format!("after {:>4} s", since()), "the rollout is complete")?;
        let reported = scout.delivered(CHECKOUT, ENVIRONMENT, first).await?;
        screen.check("App's status: revision", reported, &second)?;
        self.check_secret(&second, value).await?;
        self.check_variable(&deployment, &second)?;
        screen.check("rollouts because of it", scout.rollouts(NAMESPACE, API).await? - rollouts, 1)?;
        self.check_pods(&selector, &format!("{VARIABLE}={value}")).await?;
        let old = scout.list("Pod", NAMESPACE, &format!("{LABEL}/{CHECKOUT}={first}")).await?;
        let old = old.into_iter().filter_map(Pod::ready).count();
        screen.check("pods with the old revision", old, 0)?;
        Ok(first_ready)
    }

    /// Waits for a Secret of the App with variables that is not the first revision's; returns its revision.
    async fn new_revision(&self, first: &str) -> Result<String> {
        eventually("a Secret with a new revision", async || {
            let secrets = self.scout.list("Secret", NAMESPACE, MANAGED).await?;
            let mut names = secrets.iter().filter_map(|secret| secret["metadata"]["name"].as_str());
            let prefix = secret_of("");
            let revision = names.find_map(|name| name.strip_prefix(&prefix).filter(|revision| *revision != first));
            Ok(match revision {
                Some(revision) => Answer::Is(revision.to_owned()),
                None => Answer::NotYet(format!("{} Secrets, none of them new", secrets.len())),
            })
        })
        .await
    }

    async fn mounted(&self) -> Result<Pod> {
        let (scout, screen) = (self.scout, self.screen);
        screen.step(
            "The other strategy: secrets as files",
            "App first, Deployment second: what a link names is attached at its CREATE, so it rolls out once.",
        )?;
        let (file, content) = (store_file(TLS, "yaml"), "sample certificate one");
        scout.save(&file, &format!("{FILE}: {content}\n"))?;
        scout.apply(&sample::tls()).await?;
        self.manifest(&sample::tls())?;
        screen.fact(&format!("saved {file}"), &format!("{FILE}: {content}"))?;
        let revision = scout.delivered(TLS, ENVIRONMENT, "").await?;
        let created = scout.create(&sample::web(self.real)).await?;
        let expected = format!("scout-{TLS}: mountPath {}, read-only", folder());
        screen.check(
            "volumeMounts of the container",
            entries(&container(&created, CONTAINER)["volumeMounts"]),
            expected,
        )?;
        let volumes = entries(&created["spec"]["template"]["spec"]["volumes"]);
        screen.check("volumes of the template", volumes, format!("scout-{TLS}: secretName {}", file_secret()))?;
        scout.rolled_out(NAMESPACE, WEB, TLS, &revision).await?;
        let pod = self.only_pod(WEB).await?;
        self.check_file(&pod, content).await?;
        screen.fact("its uid", &pod.uid)?;
        screen.fact("its restarts", &pod.restarts.to_string())?;
        Ok(pod)
    }

    async fn followed(&self, before: &Pod) -> Result<String> {
        let (scout, screen) = (self.scout, self.screen);
        let explanation = if self.real {
            "The Secret is updated in place, and the kubelet replaces the file. Nothing restarts."
        } else {
            "The Secret is updated in place, and a real kubelet would replace the file. Nothing restarts."
        };
        screen.step("The file changes inside the same pod", explanation)?;
        let (file, content) = (store_file(TLS, "yaml"), "sample certificate two");
        let saved = Instant::now();
        scout.save(&file, &format!("{FILE}: {content}\n"))?;
        screen.fact(&format!("saved {file}"), &format!("{FILE}: {content}"))?;
        eventually(&format!("{} in pod {} to follow", path(), before.name), async || {
            let seen = self.content(&before.name).await?;
            Ok(Answer::when(seen == content, (), seen))
        })
        .await?;
        let follow = seconds(saved.elapsed());
        screen.fact(&format!("after {follow:>4} s"), "the new content is there")?;
        let pod = self.only_pod(WEB).await?;
        self.check_file(&pod, content).await?;
        screen.check("its uid", &pod.uid, &before.uid)?;
        screen.check("its restarts", pod.restarts, before.restarts)?;
        screen.check("rollouts of the Deployment", scout.rollouts(NAMESPACE, WEB).await?, 1)?;
        Ok(follow)
    }

    /// The Ready pods of a Deployment that carry these labels, too.
    async fn pods(&self, deployment: &str, selector: &str) -> Result<Vec<Pod>> {
        let comma = if selector.is_empty() { "" } else { "," };
        let pods = self.scout.list("Pod", NAMESPACE, &format!("app={deployment}{comma}{selector}")).await?;
        Ok(pods.into_iter().filter_map(Pod::ready).collect())
    }

    async fn only_pod(&self, deployment: &str) -> Result<Pod> {
        let mut pods = self.pods(deployment, "").await?;
        self.screen.check(&format!("Ready pods of {deployment}"), pods.len(), 1)?;
        pods.pop().context("there is no pod")
    }

    /// Checks what every pod with these labels sees of the variable.
    async fn check_pods(&self, selector: &str, expected: &str) -> Result<()> {
        let pods = self.pods(API, selector).await?;
        self.screen.check("Ready pods", pods.len(), &sample::api(self.real)["spec"]["replicas"])?;
        let verb = if self.real { "printed" } else { "refers to" };
        for pod in pods {
            self.screen.check(&format!("{} {verb}", pod.name), self.variable(&pod).await?, expected)?;
        }
        Ok(())
    }

    /// What a pod's container printed of its variable; without containers, what its env refers to.
    async fn variable(&self, pod: &Pod) -> Result<String> {
        if self.real {
            // A container counts as Ready as soon as it has started, which may be before it prints.
            return eventually(&format!("pod {} to print", pod.name), async || {
                let log = self.scout.cluster().container_logs(NAMESPACE, &pod.name, CONTAINER).await?;
                Ok(Answer::when(log.ends_with('\n'), log.trim_end().to_owned(), "nothing"))
            })
            .await;
        }
        let as_template = json!({"metadata": {"namespace": NAMESPACE}, "spec": {"template": &pod.object}});
        let value = self.scout.variable(&as_template, CONTAINER, VARIABLE).await?;
        Ok(format!("{VARIABLE}={}", shown(value.as_deref())))
    }

    async fn check_file(&self, pod: &Pod, content: &str) -> Result<()> {
        let name = &pod.name;
        let label = if self.real { format!("{name}: cat {FILE}") } else { format!("Secret of {name}") };
        self.screen.check(&label, self.content(name).await?, content)
    }

    /// What the file in a pod's container holds; without containers, what the mounted Secret holds.
    async fn content(&self, pod: &str) -> Result<String> {
        if self.real {
            return self.scout.cluster().exec(NAMESPACE, pod, CONTAINER, &["cat", &path()]).await;
        }
        let held = self.scout.secret_value(NAMESPACE, &file_secret(), FILE).await?;
        Ok(shown(held.as_deref()).to_owned())
    }

    /// Shows what a user writes.
    fn manifest(&self, object: &Value) -> Result<()> {
        let text = serde_saphyr::to_string(object).context("writing a manifest as YAML")?;
        self.screen.text(&text)?;
        self.screen.print("")
    }

    /// Says what is up, and what to try with it.
    pub(crate) fn invite(&self) -> Result<()> {
        let scout = self.scout;
        let file = scout.store().join(store_file(CHECKOUT, "env"));
        let programs = scout.cluster().kubectl_program().parent().unwrap_or(Path::new("/")).display().to_string();
        let reading = if self.real {
            format!("\n  kubectl logs --namespace {NAMESPACE} --selector app={API} --prefix")
        } else {
            String::new()
        };
        self.screen.print(&format!(
            "\nEverything stays up until Ctrl-C. Three things to try, in another terminal:\n\n  \
             export KUBECONFIG={kubeconfig}\n  \
             export PATH={programs}:$PATH\n\n\
             1. Save another value, and watch the pods roll; the last column is the revision that each one runs\n\n  \
             echo '{VARIABLE}=sample-three' > {file}\n  \
             kubectl get pods --namespace {NAMESPACE} --label-columns {LABEL}/{CHECKOUT} --watch{reading}\n\n\
             2. Take the Deployment out of Scout's hands, see that nothing of Scout is left in it, and give it back\n\n  \
             kubectl annotate deployment {API} --namespace {NAMESPACE} {LABEL}/mutation-mode=ignore-and-detach\n  \
             kubectl get deployment {API} --namespace {NAMESPACE} --output yaml\n  \
             kubectl annotate deployment {API} --namespace {NAMESPACE} {LABEL}/mutation-mode-\n\n\
             3. Ask what is delivered, and what would be done now\n\n  \
             {host_sync} status\n  \
             {host_sync} plan\n",
            kubeconfig = scout.cluster().kubeconfig().display(),
            file = file.display(),
            host_sync = scout.host_sync().binary().display(),
        ))
    }
}

/// The file of an App in the store.
fn store_file(app: &str, format: &str) -> String {
    format!("{app}/{ENVIRONMENT}.{format}")
}

/// The Secret of a revision of the App with variables.
fn secret_of(revision: &str) -> String {
    format!("scout.{CHECKOUT}.{revision}")
}

/// The Secret that the Deployment with files mounts.
fn file_secret() -> String {
    format!("scout.{TLS}.deployment.{WEB}")
}

fn folder() -> String {
    format!("/var/run/secrets/scout/{TLS}")
}

fn path() -> String {
    format!("{}/{FILE}", folder())
}

/// The revision that a Deployment's template is labelled with.
fn label_of(deployment: &Value) -> String {
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    labels[format!("{LABEL}/{CHECKOUT}")].as_str().unwrap_or("none").to_owned()
}

/// The entries of a list of a manifest in one line: those that Scout adds in words, others as they are.
fn entries(list: &Value) -> String {
    let all = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let words: Vec<String> = all.iter().map(|entry| in_words(entry).unwrap_or_else(|| entry.to_string())).collect();
    if words.is_empty() { "none".to_owned() } else { words.join("; ") }
}

/// An env entry from a Secret, a read-only mount, or a volume of a Secret.
fn in_words(entry: &Value) -> Option<String> {
    let name = entry["name"].as_str()?;
    let reference = &entry["valueFrom"]["secretKeyRef"];
    if let (Some(secret), Some(key)) = (reference["name"].as_str(), reference["key"].as_str()) {
        return Some(format!("{name}: secretKeyRef {secret}, key {key}"));
    }
    if let Some(secret) = entry["secret"]["secretName"].as_str() {
        return Some(format!("{name}: secretName {secret}"));
    }
    let path = entry["mountPath"].as_str().filter(|_| entry["readOnly"] == true)?;
    Some(format!("{name}: mountPath {path}, read-only"))
}

fn shown(value: Option<&str>) -> &str {
    value.unwrap_or("(not set)")
}
