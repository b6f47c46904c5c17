//! What may happen to a cluster, at random: users, stores, namespaces, crashes.

use host_sync_core::config::{Mode, Reload};
use policy_core::attachment::Strategy as DeploymentStrategy;
use policy_core::desired_state::Link;
use proptest::prelude::*;
use proptest::sample::select;

use crate::admission::Cause;
use crate::cluster::{Answer, Cluster, app_name, named, path, tier};

pub const APPS: [&str; 2] = ["cart", "mail"];
pub const ENVIRONMENTS: [&str; 2] = ["production", "staging"];
pub const NAMESPACES: [&str; 2] = ["shop", "west"];
const WORKLOADS: [(&str, &str); 3] = [("api", "backend"), ("front", "web"), ("admin", "web")];

#[derive(Clone, Debug)]
pub enum Act {
    EditValue(usize, usize),
    AddKey(usize, usize),
    LoseKey(usize, usize),
    StoreFails(usize, usize),
    StoreIsEmpty(usize, usize),
    Label(usize, Option<usize>),
    Link(usize, usize, usize, usize),
    Unlink(usize, usize, usize),
    SetMode(usize, usize, usize),
    Create(usize, usize, usize),
    Delete(usize, usize),
    Retier(usize, usize),
    Restart(usize, usize),
    ToggleStrategy(usize),
    ToggleReload(usize, usize),
    ToggleMode(usize, usize),
    Redeploy(usize),
    DeleteApp(usize),
    CreateApp(usize),
    Unparsable(usize, bool),
    RotateKey(u8),
    FinishRollouts,
    Wait(i64),
    Pass(bool),
    Crash(usize),
}

fn link(which: usize) -> Link {
    [named("api"), named("front"), tier("web")][which].clone()
}

fn mode(which: usize) -> Option<&'static str> {
    [None, Some("ignore"), Some("ignore-and-detach")][which]
}

/// What a test leaves out, because it would be the explicit wish for what the test forbids.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Without {
    Nothing,
    ConfirmedShrinking,
}

pub fn act(without: Without) -> BoxedStrategy<Act> {
    let two = || 0_usize..2;
    let three = || 0_usize..3;
    let store = prop_oneof![
        4 => (two(), two()).prop_map(|(a, e)| Act::EditValue(a, e)),
        2 => (two(), two()).prop_map(|(a, e)| Act::AddKey(a, e)),
        2 => (two(), two()).prop_map(|(a, e)| Act::LoseKey(a, e)),
        1 => (two(), two()).prop_map(|(a, e)| Act::StoreFails(a, e)),
        1 => (two(), two()).prop_map(|(a, e)| Act::StoreIsEmpty(a, e)),
    ];
    let workloads = prop_oneof![
        4 => (two(), three(), three()).prop_map(|(n, w, m)| Act::SetMode(n, w, m)),
        3 => (two(), three(), three()).prop_map(|(n, w, m)| Act::Create(n, w, m)),
        1 => (two(), three()).prop_map(|(n, w)| Act::Delete(n, w)),
        1 => (two(), three()).prop_map(|(n, w)| Act::Retier(n, w)),
        2 => (two(), three()).prop_map(|(n, w)| Act::Restart(n, w)),
    ];
    let apps = prop_oneof![
        4 => (two(), two(), two(), three()).prop_map(|(a, e, n, l)| Act::Link(a, e, n, l)),
        1 => (two(), two(), two()).prop_map(|(a, e, n)| Act::Unlink(a, e, n)),
        1 => two().prop_map(Act::ToggleStrategy),
        1 => (two(), two()).prop_map(|(a, e)| Act::ToggleReload(a, e)),
        1 => (two(), two()).prop_map(|(a, e)| Act::ToggleMode(a, e)),
        1 => two().prop_map(Act::DeleteApp),
        1 => two().prop_map(Act::CreateApp),
        1 => (two(), any::<bool>()).prop_map(|(a, bad)| Act::Unparsable(a, bad)),
        1 => (1..4_u8).prop_map(Act::RotateKey),
    ];
    let host_sync = prop_oneof![
        5 => any::<bool>().prop_map(Act::Pass),
        4 => (0_usize..12).prop_map(Act::Crash),
        2 => Just(Act::FinishRollouts),
        3 => select(vec![1, 6, 30, 61, 200]).prop_map(Act::Wait),
    ];
    let labels = (two(), prop::option::of(two())).prop_map(|(n, e)| Act::Label(n, e));
    let redeploy = two().prop_map(Act::Redeploy);
    match without {
        Without::Nothing => {
            prop_oneof![4 => store, 6 => workloads, 6 => apps, 8 => host_sync, 1 => labels, 1 => redeploy].boxed()
        }
        Without::ConfirmedShrinking => {
            prop_oneof![5 => store, 5 => workloads, 5 => apps, 8 => host_sync, 1 => labels].boxed()
        }
    }
}

/// A cluster in which something is delivered to both namespaces already.
pub fn busy_cluster() -> Cluster {
    let mut cluster = Cluster::new();
    for namespace in NAMESPACES {
        cluster.label(namespace, Some("production"));
    }
    cluster.pass();
    for namespace in NAMESPACES {
        for (name, of) in WORKLOADS {
            cluster.create_workload(namespace, name, of, None).unwrap();
        }
    }
    cluster.create_app("cart", DeploymentStrategy::EnvironmentVariables, Reload::Auto);
    cluster.create_app("mail", DeploymentStrategy::VolumeMount, Reload::Auto);
    for app in APPS {
        for of in ENVIRONMENTS {
            cluster.edit_value(app, of);
        }
    }
    cluster.link("cart", "production", "shop", named("api"));
    cluster.link("cart", "staging", "shop", named("api"));
    cluster.link("mail", "production", "shop", tier("web"));
    cluster.link("mail", "production", "west", named("front"));
    cluster.settle();
    cluster
}

impl Cluster {
    /// Every value is new, so that every revision is.
    fn edit_value(&mut self, app: &str, of: &str) {
        let stamp = self.next();
        let key = format!("{app}_ONE").to_ascii_uppercase();
        let keys = match self.store.get(&path(app, of)) {
            Some(Answer::Keys(keys)) if !keys.is_empty() => keys.keys().cloned().collect(),
            _ => vec![key],
        };
        let keys = keys.into_iter().map(|key| (key, format!("value-{stamp}"))).collect();
        self.store.insert(path(app, of), Answer::Keys(keys));
        self.refresh = true;
    }

    pub fn act(&mut self, act: &Act) {
        match *act {
            Act::EditValue(a, e) => self.edit_value(APPS[a], ENVIRONMENTS[e]),
            Act::AddKey(a, e) => {
                let (key, stamp) = (format!("{}_TWO", APPS[a]).to_ascii_uppercase(), self.next());
                if let Some(Answer::Keys(keys)) = self.store.get_mut(&path(APPS[a], ENVIRONMENTS[e])) {
                    keys.insert(key, format!("value-{stamp}"));
                }
                self.edit_value(APPS[a], ENVIRONMENTS[e]);
            }
            Act::LoseKey(a, e) => {
                if let Some(Answer::Keys(keys)) = self.store.get_mut(&path(APPS[a], ENVIRONMENTS[e])) {
                    keys.remove(&format!("{}_TWO", APPS[a]).to_ascii_uppercase());
                }
                self.refresh = true;
            }
            Act::StoreFails(a, e) => self.fail(APPS[a], ENVIRONMENTS[e]),
            Act::StoreIsEmpty(a, e) => self.save(APPS[a], ENVIRONMENTS[e], &[]),
            Act::Label(n, e) => self.label(NAMESPACES[n], e.map(|e| ENVIRONMENTS[e])),
            Act::SetMode(n, w, m) => self.set_mode(NAMESPACES[n], WORKLOADS[w].0, mode(m)),
            Act::Create(n, w, m) => {
                let (name, of) = WORKLOADS[w];
                if !self.workloads.contains_key(&(NAMESPACES[n].to_owned(), name.to_owned())) {
                    // Refused where there is no desired state yet: the user tries again another time.
                    let _ = self.create_workload(NAMESPACES[n], name, of, mode(m));
                }
            }
            Act::Delete(n, w) => {
                let key = (NAMESPACES[n].to_owned(), WORKLOADS[w].0.to_owned());
                self.workloads.remove(&key);
                self.seen.retain(|(of, _), _| *of != key);
            }
            Act::Retier(n, w) => self.retier(NAMESPACES[n], WORKLOADS[w].0),
            Act::Restart(n, w) => self.restart(NAMESPACES[n], WORKLOADS[w].0),
            Act::FinishRollouts => self.finish_rollouts(),
            Act::Wait(seconds) => self.now += seconds,
            Act::Pass(refresh) => {
                self.refresh |= refresh;
                self.pass();
            }
            Act::Crash(step) => {
                self.refresh = true;
                self.pass_until(Some(step));
            }
            Act::RotateKey(byte) => self.rotate_key(byte),
            _ => self.act_on_app(act),
        }
    }

    fn retier(&mut self, namespace: &str, name: &str) {
        self.edit_workload(namespace, name, Cause::User, |object| {
            let other = if object["metadata"]["labels"]["tier"] == "web" { "backend" } else { "web" };
            object["metadata"]["labels"]["tier"] = other.into();
        });
    }

    fn act_on_app(&mut self, act: &Act) {
        let (Act::Link(a, ..)
        | Act::Unlink(a, ..)
        | Act::ToggleStrategy(a)
        | Act::ToggleReload(a, _)
        | Act::ToggleMode(a, _)
        | Act::Redeploy(a)
        | Act::DeleteApp(a)
        | Act::Unparsable(a, _)
        | Act::CreateApp(a)) = *act
        else {
            return;
        };
        let name = APPS[a];
        if !self.apps.contains_key(&app_name(name)) {
            if matches!(act, Act::CreateApp(_)) {
                self.unparsable_apps.remove(&app_name(name));
                self.create_app(name, DeploymentStrategy::EnvironmentVariables, Reload::Auto);
            }
            return;
        }
        match *act {
            Act::Link(_, e, n, l) => self.link(name, ENVIRONMENTS[e], NAMESPACES[n], link(l)),
            Act::Unlink(_, e, n) => self.unlink(name, ENVIRONMENTS[e], NAMESPACES[n]),
            Act::Redeploy(_) => self.redeploy(name),
            Act::DeleteApp(_) => self.delete_app(name),
            Act::Unparsable(_, true) => {
                self.unparsable_apps.insert(app_name(name));
            }
            Act::Unparsable(_, false) => {
                self.unparsable_apps.remove(&app_name(name));
            }
            _ => {
                // The same attachment may come again, and a roll into it is what was asked for.
                self.seen.retain(|(_, of), _| of.as_str() != name);
                self.toggle(act, name);
            }
        }
    }

    fn toggle(&mut self, act: &Act, name: &str) {
        match *act {
            Act::ToggleStrategy(_) => {
                let app = self.app(name);
                app.strategy = match app.strategy {
                    DeploymentStrategy::EnvironmentVariables => DeploymentStrategy::VolumeMount,
                    DeploymentStrategy::VolumeMount => DeploymentStrategy::EnvironmentVariables,
                };
            }
            Act::ToggleReload(_, e) => {
                let config = self.config(name, ENVIRONMENTS[e]);
                config.reload = if config.reload == Reload::Auto { Reload::Manual } else { Reload::Auto };
            }
            Act::ToggleMode(_, e) => {
                let config = self.config(name, ENVIRONMENTS[e]);
                config.mode = if config.mode == Mode::Agent { Mode::Operator } else { Mode::Agent };
            }
            _ => {}
        }
    }

    /// Everything in order again: stores answer, Apps can be read, namespaces have their label.
    pub fn repair(&mut self) {
        for app in APPS {
            for of in ENVIRONMENTS {
                if !matches!(self.store.get(&path(app, of)), Some(Answer::Keys(keys)) if !keys.is_empty()) {
                    self.edit_value(app, of);
                }
            }
        }
        self.unparsable_apps.clear();
        for namespace in NAMESPACES {
            if self.namespaces[namespace].environment.is_none() {
                self.label(namespace, Some("production"));
            }
        }
    }
}
