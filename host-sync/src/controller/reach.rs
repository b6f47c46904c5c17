//! Where host-sync may deliver to: every namespace, or some that its operator names, with rights in these alone.

use std::collections::BTreeSet;

use kube::core::NamespaceResourceScope;
use kube::core::Resource;
use kube::runtime::watcher;
use kube::{Api, Client};

/// Where host-sync may deliver to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// To every namespace of an environment.
    Everywhere,
    /// To these namespaces alone; it asks the API server about no other.
    Namespaces(BTreeSet<String>),
}

impl Reach {
    /// These namespaces; none means every one.
    pub fn of(namespaces: &[String]) -> Self {
        // An environment variable that is set and empty is one empty name.
        let named: BTreeSet<String> = namespaces.iter().filter(|name| !name.is_empty()).cloned().collect();
        if named.is_empty() { Self::Everywhere } else { Self::Namespaces(named) }
    }

    /// Whether a namespace is within it.
    pub(super) fn holds(&self, namespace: &str) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Namespaces(namespaces) => namespaces.contains(namespace),
        }
    }

    /// Where to look for namespaced objects of a kind: each API with the namespace that it is of, if it is of one.
    pub(super) fn apis<K>(&self, client: &Client) -> Vec<(Option<String>, Api<K>)>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType: Default>,
    {
        match self {
            Self::Everywhere => vec![(None, Api::all(client.clone()))],
            Self::Namespaces(namespaces) => {
                let api = |one: &String| (Some(one.clone()), Api::namespaced(client.clone(), one));
                namespaces.iter().map(api).collect()
            }
        }
    }

    /// How to look for the namespaces themselves: by their names where they are named, for which a right to these is enough.
    pub(super) fn namespace_watches(&self) -> Vec<watcher::Config> {
        match self {
            Self::Everywhere => vec![watcher::Config::default()],
            Self::Namespaces(namespaces) => {
                let by_name = |one: &String| watcher::Config::default().fields(&format!("metadata.name={one}"));
                namespaces.iter().map(by_name).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_means_every_namespace() {
        assert_eq!(Reach::of(&[String::new()]), Reach::Everywhere);
        let shop = Reach::of(&["shop".to_owned(), String::new()]);
        assert!(shop.holds("shop") && !shop.holds("") && !shop.holds("other"));
    }
}
