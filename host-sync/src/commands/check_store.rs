//! `check-store`: opens a store from here, and says what it holds: keys, never values, and the fix for what it does not.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result, bail};
use futures::{StreamExt, stream};
use host_sync_core::config::{App, KeySelection};
use host_sync_core::content::select;
use host_sync_core::store::{FetchError, Fetched, SourcePath, Store};
use kube::{Api, Client};

use super::manifests;
use super::output::{self, BAD, GOOD, HEADING, counted, paint};
use crate::api::{self, SecretStoreSpec};
use crate::cli::CheckStoreArguments;
use crate::controller::stores::backend;
use crate::parse;

/// How many reads are on their way at a time.
const CONCURRENCY: usize = 4;

/// A path to read, and who takes what from it.
type Paths = BTreeMap<SourcePath, Vec<(String, KeySelection)>>;

/// Prints what the store holds; returns the exit code.
pub(super) async fn run(arguments: &CheckStoreArguments) -> Result<u8> {
    let (spec, apps) = if arguments.files.is_empty() {
        let client = super::cluster::connect(&arguments.connection).await?;
        from_cluster(&client, &arguments.store, arguments.path.is_none()).await?
    } else {
        from_files(arguments)?
    };
    let paths = match &arguments.path {
        Some(path) => BTreeMap::from([(SourcePath::parse(path)?, Vec::new())]),
        None => paths_of(&apps, &arguments.store),
    };
    parse::refresh_interval(&spec.refresh_interval)?;
    let Some(store) = backend(&spec) else { bail!("SecretStore {} names no backend", arguments.store) };
    let mut text =
        format!("{}: {}\n", paint(HEADING, &format!("SecretStore {}", arguments.store)), store.description());
    if paths.is_empty() {
        bail!("no App takes anything from SecretStore {}: name a path to read", arguments.store);
    }
    let reads = stream::iter(paths).map(|(path, users)| {
        let store = store.clone();
        async move {
            let result = read(store.as_ref(), &path).await;
            (path, users, result)
        }
    });
    let mut failed = false;
    for (path, users, result) in reads.buffered(CONCURRENCY).collect::<Vec<_>>().await {
        failed |= describe(&mut text, &path, &users, &result);
    }
    output::print(&text)?;
    Ok(u8::from(failed))
}

async fn read(store: &dyn Store, path: &SourcePath) -> Result<Fetched, FetchError> {
    let patience = std::time::Duration::from_secs(30);
    tokio::time::timeout(patience, store.fetch(path)).await.unwrap_or_else(|_| {
        Err(FetchError::Unavailable { detail: format!("it did not answer within {} s", patience.as_secs()) })
    })
}

async fn from_cluster(client: &Client, name: &str, with_apps: bool) -> Result<(SecretStoreSpec, Vec<App>)> {
    let stores: Api<api::SecretStore> = Api::all(client.clone());
    let store = stores.get_opt(name).await.with_context(|| format!("reading SecretStore {name}"))?;
    let Some(store) = store else {
        bail!("SecretStore {name} does not exist: 'kubectl get secretstores.scout.commandk.dev' lists those that do");
    };
    let apps = if with_apps { super::cluster::read_apps(client, None).await? } else { Vec::new() };
    Ok((store.spec, apps.into_iter().filter_map(|app| app.config.ok()).collect()))
}

fn from_files(arguments: &CheckStoreArguments) -> Result<(SecretStoreSpec, Vec<App>)> {
    let (mut spec, mut apps) = (None, Vec::new());
    for document in manifests::read(&arguments.files)? {
        match document.at("/kind") {
            "SecretStore" if document.at("/metadata/name") == arguments.store => {
                spec = Some(document.typed::<api::SecretStore>()?.spec);
            }
            "App" => {
                let name = document.at("/metadata/name");
                let app = parse::app(&document.typed()?);
                apps.push(app.with_context(|| format!("{}: App {name}", document.source))?);
            }
            _ => {}
        }
    }
    let spec = spec.with_context(|| format!("there is no SecretStore {} in what -f names", arguments.store))?;
    Ok((spec, apps))
}

fn paths_of(apps: &[App], store: &str) -> Paths {
    let mut paths = Paths::new();
    for app in apps.iter().filter(|app| app.store == store) {
        for (environment, config) in &app.environments {
            let user = (format!("App {}/{environment}", app.name), config.keys.clone());
            paths.entry(config.source.clone()).or_default().push(user);
        }
    }
    paths
}

/// Says what one path holds; whether something is wrong with it.
fn describe(
    text: &mut String,
    path: &SourcePath,
    users: &[(String, KeySelection)],
    result: &Result<Fetched, FetchError>,
) -> bool {
    match result {
        Err(error) => {
            let _ = writeln!(text, "{} {path}: {error} ({})", paint(BAD, "✗"), error.class());
            let _ = writeln!(text, "    → {}", fix(error));
            true
        }
        Ok(fetched) => {
            let keys: Vec<&str> = fetched.iter().map(|(key, _)| key).collect();
            let _ = writeln!(text, "{} {path}: {}: {}", paint(GOOD, "✓"), counted(keys.len(), "key"), keys.join(", "));
            let mut failed = false;
            for (user, keys) in users {
                let wrong = select(fetched, path, keys).err();
                let mark = if wrong.is_some() { paint(BAD, "✗") } else { paint(GOOD, "✓") };
                let says = wrong.as_ref().map_or_else(|| "can be delivered".to_owned(), ToString::to_string);
                let _ = writeln!(text, "    {mark} {user}: {says}");
                failed |= wrong.is_some();
            }
            failed
        }
    }
}

/// What to do about each class of error.
fn fix(error: &FetchError) -> String {
    match error {
        FetchError::NotFound { path, .. } => {
            format!("create {path} in the store, or correct environments[].source.path of the App")
        }
        FetchError::Denied { path, .. } => format!("let host-sync's account read {path}: only that, and only reading"),
        FetchError::Throttled { retry_after: Some(wait), .. } => {
            format!("wait {} s, and set a longer refreshInterval in the SecretStore", wait.as_secs())
        }
        FetchError::Throttled { retry_after: None, .. } => "set a longer refreshInterval in the SecretStore".to_owned(),
        FetchError::Unavailable { .. } => {
            "see whether the store is up and can be reached from here; a folder must be mounted here as it is for host-sync".to_owned()
        }
        FetchError::Malformed { file, line, .. } => format!("correct {file} at line {line}"),
        FetchError::Misconfigured { .. } => "correct the SecretStore or the App as the message says".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use host_sync_core::secret_bytes::{Key, SecretBytes};

    #[test]
    fn keys_are_listed_and_no_value_is() {
        let fetched = Fetched::from_iter([("TOKEN".to_owned(), SecretBytes::new(b"very-secret".to_vec()))]);
        let path = SourcePath::parse("checkout/production").unwrap();
        let named = KeySelection::Named(BTreeMap::from([(Key::parse("DB_URL").unwrap(), "db-url".to_owned())]));
        let users =
            vec![("App checkout/production".to_owned(), named), ("App b/production".to_owned(), KeySelection::All)];
        let mut text = String::new();
        assert!(describe(&mut text, &path, &users, &Ok(fetched)), "a key is missing");
        let text = anstream::adapter::strip_str(&text).to_string();
        assert!(text.starts_with("✓ checkout/production: 1 key: TOKEN\n    ✗ App checkout/production: "), "{text}");
        assert!(
            text.contains("lacks the key \"db-url\"") && text.ends_with("✓ App b/production: can be delivered\n"),
            "{text}"
        );
        assert!(!text.contains("very-secret"));
    }

    #[test]
    fn every_class_of_error_has_its_own_fix() {
        let path = SourcePath::parse("a").unwrap();
        let detail = String::new;
        let errors = [
            FetchError::NotFound { path: path.clone(), detail: detail() },
            FetchError::Denied { path: path.clone(), detail: detail() },
            FetchError::Throttled { retry_after: None, detail: detail() },
            FetchError::Unavailable { detail: detail() },
            FetchError::Malformed { file: "a.env".into(), line: 3, column: 1, problem: detail() },
            FetchError::Misconfigured { path, detail: detail() },
        ];
        let fixes: std::collections::BTreeSet<String> = errors.iter().map(fix).collect();
        assert_eq!(fixes.len(), errors.len());
        assert!(fixes.contains("correct a.env at line 3"));
    }
}
