//! Delivering: what each associated namespace is to hold of each app environment, and when.
//!
//! Strategy and reload are captured here, at delivery. A delivery happens when the content changed, when somebody asked
//! for it, or when a link is new; whatever else an App's edit changes waits until then, and the report says so.

use std::collections::{BTreeMap, BTreeSet};

use policy_core::desired_state::{Entry, Injection, Link};
use policy_core::matching::{Clash, matches};
use policy_core::names::{Environment, Revision};

use super::links::{
    active_namespaces, app_environments, current_secrets, entry_of, is_needed, mounted_secrets, recorded_secrets,
};
use super::{AppEnvironment, Draft, Outcome, RevisionKey, SecretSpec};
use crate::config::{App, AppEnvironmentConfig, KeySelection, Mode};
use crate::content::{lost_keys, select};
use crate::history::AppHistory;
use crate::secret_bytes::Content;
use crate::snapshot::{FetchFacts, Problem, SecretFacts, Snapshot};

/// Delivers every fresh fetch. The result says what came of each.
pub(super) fn deliver(draft: &mut Draft<'_>, key: &RevisionKey) -> BTreeMap<AppEnvironment, Outcome> {
    let snapshot = draft.snapshot;
    let mut outcomes = BTreeMap::new();
    for (app, environment, config) in app_environments(snapshot) {
        let of = AppEnvironment { app: app.name.clone(), environment: environment.clone() };
        match snapshot.fetches.get(&of) {
            Some(FetchFacts::Failed(problem)) => draft.problem(&of, problem.reason, problem.message.clone()),
            Some(FetchFacts::Fresh(fetched)) => {
                let content = select(fetched, &config.source, &config.keys)
                    .map_err(|error| vec![Problem { reason: "ContentRefused", message: error.to_string() }]);
                let outcome = content.and_then(|content| {
                    Delivery { snapshot, app, environment, config, content, of: of.clone() }.decide(draft, key)
                });
                let outcome = outcome.unwrap_or_else(Outcome::Refused);
                if let Outcome::Refused(problems) = &outcome {
                    for problem in problems {
                        draft.problem(&of, problem.reason, problem.message.clone());
                    }
                }
                outcomes.insert(of, outcome);
            }
            None => {}
        }
    }
    outcomes
}

/// One fetched app environment on its way.
struct Delivery<'a> {
    snapshot: &'a Snapshot,
    app: &'a App,
    environment: &'a Environment,
    config: &'a AppEnvironmentConfig,
    content: Content,
    of: AppEnvironment,
}

/// What one namespace is to hold of a delivery.
struct NamespaceDelivery {
    namespace: String,
    entry: Entry,
    secrets: Vec<(SecretSpec, String)>,
}

impl Delivery<'_> {
    /// All or nothing: what is refused in one namespace is delivered in none.
    fn decide(&self, draft: &mut Draft<'_>, key: &RevisionKey) -> Result<Outcome, Vec<Problem>> {
        let namespaces: Vec<(&str, &BTreeSet<Link>)> = active_namespaces(self.snapshot, self.environment, self.config)
            .filter(|(namespace, links)| is_needed(self.snapshot, namespace, links))
            .filter(|(namespace, _)| draft.states.contains_key(*namespace))
            .collect();
        self.refuse_shrinking(&namespaces)?;
        let (revision, changed) = self.revision(draft, key, &namespaces)?;
        let why = self.delivery_reason(draft, &namespaces, changed);
        let revision = if why.is_some() { self.moved(draft, key, &namespaces, revision) } else { revision };
        let mut deliveries = Vec::new();
        for (namespace, links) in &namespaces {
            // Without a delivery the entry stays as captured, but a Secret that somebody deleted comes back.
            let entry = match (&why, self.entry(draft, namespace)) {
                (None, Some(entry)) => entry.clone(),
                _ => entry_of(self.app, self.environment, self.config, links, &revision, Some(&self.content)),
            };
            self.refuse_impossible_states(draft, namespace, &entry)?;
            let reason = why.clone().unwrap_or_else(|| "it is missing or does not hold its revision".to_owned());
            let secrets = self.secrets(draft, namespace, &entry, &reason)?;
            deliveries.push(NamespaceDelivery { namespace: (*namespace).to_owned(), entry, secrets });
        }
        for delivery in deliveries {
            self.commit(draft, delivery, why.as_deref());
        }
        let Some(why) = why else { return Ok(Outcome::Unchanged) };
        let namespaces = namespaces.into_iter().map(|(namespace, _)| namespace.to_owned()).collect();
        Ok(Outcome::Delivered { revision, namespaces, why })
    }

    /// Puts what one namespace is to hold into the draft, and into its history. Where nothing changes, nothing does.
    fn commit(&self, draft: &mut Draft<'_>, delivery: NamespaceDelivery, why: Option<&str>) {
        let NamespaceDelivery { namespace, entry, secrets } = delivery;
        let changes = self.entry(draft, &namespace) != Some(&entry);
        let history = draft.histories.entry(namespace.clone()).or_default();
        let history = history
            .entry(self.app.name.clone())
            .or_insert_with(|| AppHistory::new(draft.now, self.environment.clone()));
        for name in current_secrets(self.snapshot, &self.app.name, &entry, &namespace) {
            history.record(&name, &entry.revision);
        }
        for (secret, _) in &secrets {
            history.record(&secret.name, &secret.revision);
        }
        if why.is_some() && (changes || history.redeploy != self.app.redeploy || !secrets.is_empty()) {
            history.delivered_at = draft.now;
            history.environment = self.environment.clone();
            history.redeploy.clone_from(&self.app.redeploy);
        }
        draft.secrets.extend(secrets);
        if let Some(why) = why.filter(|_| changes) {
            draft.because(&namespace, format!("{} is delivered: {why}", self.of));
            if let Some(state) = draft.states.get_mut(&namespace) {
                state.apps.insert(self.app.name.clone(), entry);
            }
        }
    }

    fn entry<'d>(&self, draft: &'d Draft<'_>, namespace: &str) -> Option<&'d Entry> {
        let entry = draft.states.get(namespace)?.apps.get(&self.app.name)?;
        (entry.environment == *self.environment).then_some(entry)
    }

    fn looked_up(&self, namespace: &str, name: &str) -> Option<&SecretFacts> {
        self.snapshot.secrets.get(&(namespace.to_owned(), name.to_owned()))?.as_ref()
    }

    /// The Secrets of a namespace that hold, or are to hold, what was delivered last.
    fn delivered_secrets(&self, namespace: &str) -> impl Iterator<Item = &SecretFacts> {
        let state = self.snapshot.state_of(namespace);
        let entry = state.and_then(|state| state.apps.get(&self.app.name));
        let entry = entry.filter(|entry| entry.environment == *self.environment);
        let names = entry.map(|entry| {
            let mut names = current_secrets(self.snapshot, &self.app.name, entry, namespace);
            names.extend(recorded_secrets(self.snapshot, &self.app.name, entry, namespace).map(str::to_owned));
            names
        });
        let namespace = namespace.to_owned();
        let ours = |facts: &&SecretFacts| facts.owner.as_ref() == Some(&self.app.name);
        names.into_iter().flatten().filter_map(move |name| self.looked_up(&namespace, &name)).filter(ours)
    }

    /// A store that returns less than before may have failed in part (I7). Only a person's word shrinks a Secret: a
    /// `redeploy` request, or `keys` in the App that name what is wanted.
    fn refuse_shrinking(&self, namespaces: &[(&str, &BTreeSet<Link>)]) -> Result<(), Vec<Problem>> {
        let named = matches!(self.config.keys, KeySelection::Named(_));
        for (namespace, _) in namespaces {
            if named || self.is_redeploy(namespace) {
                continue;
            }
            let lost: BTreeSet<_> =
                self.delivered_secrets(namespace).flat_map(|facts| lost_keys(&facts.content, &self.content)).collect();
            if !lost.is_empty() {
                let lost = lost.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let message = format!(
                    "{} lacks {lost}, which namespace {namespace} has: put it back into the store, or confirm the removal with a redeploy of App {}; what was delivered last stays",
                    self.config.source, self.app.name
                );
                return Err(vec![Problem { reason: "KeysMissing", message }]);
            }
        }
        Ok(())
    }

    /// Whether somebody asked for a delivery that the namespace has not had.
    fn is_redeploy(&self, namespace: &str) -> bool {
        let history = self.snapshot.history_of(namespace, &self.app.name);
        self.app.redeploy.is_some() && history.is_some_and(|history| history.redeploy != self.app.redeploy)
    }

    /// The revision of the fetched content, and whether it differs from what is delivered. What is delivered decides by
    /// comparison, so that a lost or rotated key renames and rolls nothing.
    fn revision(
        &self,
        draft: &Draft<'_>,
        key: &RevisionKey,
        namespaces: &[(&str, &BTreeSet<Link>)],
    ) -> Result<(Revision, bool), Vec<Problem>> {
        let computed = key.revision(&self.of, &self.content).ok_or_else(|| {
            let message = "the cluster's revision key cannot be used: restore its Secret".to_owned();
            vec![Problem { reason: "RevisionKeyUnusable", message }]
        })?;
        let mut same = BTreeSet::new();
        let mut changed = false;
        let mut incomparable = Vec::new();
        for (namespace, _) in namespaces {
            let Some(entry) = self.entry(draft, namespace) else { continue };
            let newest = |facts: &&SecretFacts| facts.revision.as_ref() == Some(&entry.revision);
            let mut compared = self.delivered_secrets(namespace).filter(newest).peekable();
            if compared.peek().is_none() {
                // Its Secrets are gone, or frozen at an earlier revision.
                incomparable.push(&entry.revision);
            } else if compared.all(|facts| facts.content == self.content) {
                same.insert(entry.revision.clone());
            } else {
                changed = true;
            }
        }
        changed |= incomparable.into_iter().any(|revision| *revision != computed && !same.contains(revision));
        // Several are equal where a namespace was linked under another key: the computed one, or else the first, is for all.
        let same = if same.contains(&computed) { None } else { same.pop_first() };
        Ok((same.unwrap_or(computed), changed))
    }

    /// Another revision where files of this one are to move to another path.
    fn moved(
        &self,
        draft: &Draft<'_>,
        key: &RevisionKey,
        namespaces: &[(&str, &BTreeSet<Link>)],
        revision: Revision,
    ) -> Revision {
        let entries = namespaces.iter().filter_map(|(namespace, links)| {
            let next = entry_of(self.app, self.environment, self.config, links, &revision, None);
            Some((self.entry(draft, namespace)?, next))
        });
        let mut elsewhere = entries.filter(|(present, next)| match (&present.injection, &next.injection) {
            (Injection::VolumeMount { mount_path: from }, Injection::VolumeMount { mount_path: to }) => {
                present.revision == revision && from != to
            }
            _ => false,
        });
        let moves = elsewhere.next().is_some();
        let at = moves.then(|| key.revision_at(&self.of, &self.content, &self.app.mount_path)).flatten();
        at.unwrap_or(revision)
    }

    /// Why this is a delivery; `None` means that nothing asks for one.
    fn delivery_reason(
        &self,
        draft: &Draft<'_>,
        namespaces: &[(&str, &BTreeSet<Link>)],
        changed: bool,
    ) -> Option<String> {
        if changed {
            return Some("the content changed".to_owned());
        }
        namespaces.iter().find_map(|(namespace, links)| {
            let Some(entry) = self.entry(draft, namespace) else {
                return Some(format!("namespace {namespace} is newly linked"));
            };
            if links.iter().any(|link| !entry.links.contains(link)) {
                return Some(format!("a link in namespace {namespace} is new"));
            }
            self.is_redeploy(namespace).then(|| "somebody asked for it (redeploy)".to_owned())
        })
    }

    /// What the desired state cannot become: larger than a ConfigMap, or one in which two apps deliver one variable or path
    /// to one workload. The second app by name is refused, never a coin toss; a clash that is there already, because the
    /// first app came later, is reported and does not keep the second from following its store.
    fn refuse_impossible_states(&self, draft: &Draft<'_>, namespace: &str, entry: &Entry) -> Result<(), Vec<Problem>> {
        let Some(present) = draft.states.get(namespace) else { return Ok(()) };
        let mut next = present.clone();
        next.apps.insert(self.app.name.clone(), entry.clone());
        if let Err(error) = next.to_data() {
            return Err(vec![Problem { reason: "DesiredStateTooLarge", message: error.to_string() }]);
        }
        let mut problems = BTreeSet::new();
        for workload in self.snapshot.workloads_in(namespace) {
            let ours = |clash: &Clash| clash.second() == &self.app.name;
            let known = matches(present, workload.as_link_target()).clashes;
            let clashes = matches(&next, workload.as_link_target()).clashes;
            for clash in clashes.into_iter().filter(|clash| ours(clash) && !known.contains(clash)) {
                let message = format!("on {} {namespace}/{}: {clash}", workload.kind, workload.name);
                problems.insert(Problem { reason: "Clash", message });
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.into_iter().collect()) }
    }

    /// The Secrets to write for an entry: those that are missing or hold something else.
    fn secrets(
        &self,
        draft: &Draft<'_>,
        namespace: &str,
        entry: &Entry,
        why: &str,
    ) -> Result<Vec<(SecretSpec, String)>, Vec<Problem>> {
        let mut secrets = Vec::new();
        let revisions_own = match &entry.injection {
            Injection::EnvironmentVariables { secret, .. } => Some(secret),
            Injection::VolumeMount { .. } | Injection::RevisionOnly { .. } => None,
        };
        let mounted = mounted_secrets(self.snapshot, &self.app.name, entry, namespace).into_iter();
        let absent =
            mounted.filter(|name| self.snapshot.secrets.get(&(namespace.to_owned(), name.clone())) == Some(&None));
        for name in current_secrets(self.snapshot, &self.app.name, entry, namespace).into_iter().chain(absent) {
            self.refuse_foreign(draft, namespace, &name)?;
            let immutable = revisions_own == Some(&name);
            let present = self.looked_up(namespace, &name);
            let up_to_date = present
                .is_some_and(|facts| facts.content == self.content && facts.revision.as_ref() == Some(&entry.revision));
            if up_to_date {
                continue;
            }
            if immutable && present.is_some_and(|facts| facts.content != self.content) {
                let message = format!(
                    "Secret {namespace}/{name} holds something else than its revision says: somebody replaced it; delete it and it is written anew"
                );
                return Err(vec![Problem { reason: "SecretTampered", message }]);
            }
            let spec = SecretSpec {
                namespace: namespace.to_owned(),
                name,
                app: self.app.name.clone(),
                app_uid: self.app.uid.clone(),
                environment: self.environment.clone(),
                revision: entry.revision.clone(),
                content: self.content.clone(),
                immutable,
                exists: present.is_some(),
            };
            secrets.push((spec, format!("{}: {why}", self.of)));
        }
        Ok(secrets)
    }

    /// A Secret that is not this App's is never written over.
    fn refuse_foreign(&self, draft: &Draft<'_>, namespace: &str, name: &str) -> Result<(), Vec<Problem>> {
        let claimed = draft.histories.get(namespace).into_iter().flatten().find(|(app, history)| {
            **app != self.app.name && history.secret(name).is_some_and(|record| record.superseded_at.is_none())
        });
        let owner = match (claimed, self.looked_up(namespace, name)) {
            (Some((app, _)), _) => format!("App {app} delivers it"),
            (None, Some(facts)) => match &facts.owner {
                Some(app) if *app == self.app.name => return Ok(()),
                Some(app) => format!("it belongs to App {app}"),
                None => "Scout does not own it".to_owned(),
            },
            (None, None) => return Ok(()),
        };
        // Only in operator mode is the name the App's to choose.
        let rename = match self.config.mode {
            Mode::Operator => format!("set another secretName in App {}, or ", self.app.name),
            Mode::Agent => String::new(),
        };
        let message =
            format!("Secret {namespace}/{name} cannot be written: {owner}; {rename}remove that Secret, or rename it");
        Err(vec![Problem { reason: "SecretNotOwned", message }])
    }
}
