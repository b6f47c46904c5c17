//! Who is signed in, in memory only, and who tries too often.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::cluster::User;
use super::rights::Visible;

/// How long somebody stays signed in. The token itself is not kept, so this bounds how long a revoked one still counts.
pub(crate) const LIFETIME: Duration = Duration::from_hours(1);
/// How long the API server's answers about rights count.
const RIGHTS_LIFETIME: Duration = Duration::from_secs(10);
/// How many sessions there may be; the one that ends first gives way.
const SESSIONS_MAX: usize = 1_000;
/// How many tries to sign in an address has in a [`WINDOW`].
const TRIES: u32 = 10;
/// The time over which tries are counted.
const WINDOW: Duration = Duration::from_mins(1);
/// How many addresses are counted apart; beyond, nobody new may try until the window is over.
const ADDRESSES_MAX: usize = 10_000;

/// 32 random bytes as hexadecimal text.
fn random_token() -> Result<String> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).context("drawing random bytes for a session")?;
    Ok(hex(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Somebody who is signed in.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// Who.
    pub(crate) user: User,
    /// What a write must bring along.
    pub(crate) csrf: String,
    /// When it ends.
    pub(crate) ends: Instant,
    rights: Option<(Instant, Arc<Visible>)>,
}

impl Session {
    /// What they may see, as far as the answer is fresh.
    pub(crate) fn fresh_rights(&self, now: Instant) -> Option<Arc<Visible>> {
        let (asked, rights) = self.rights.as_ref()?;
        (now.saturating_duration_since(*asked) < RIGHTS_LIFETIME).then(|| rights.clone())
    }
}

/// The digest of a cookie: how long a look-up takes then says nothing about the cookie.
type Key = [u8; 32];

fn key(cookie: &str) -> Key {
    Sha256::digest(cookie.as_bytes()).into()
}

#[derive(Debug, Default)]
struct State {
    sessions: BTreeMap<Key, Session>,
    tries: BTreeMap<IpAddr, u32>,
    window: Option<Instant>,
}

/// Everybody who is signed in.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<State>);

impl Sessions {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a try to sign in; `false` means that it is one too many.
    pub(crate) fn may_try(&self, from: IpAddr, now: Instant) -> bool {
        let mut state = self.state();
        if state.window.is_none_or(|began| now.saturating_duration_since(began) >= WINDOW) {
            state.window = Some(now);
            state.tries.clear();
        }
        if state.tries.len() >= ADDRESSES_MAX && !state.tries.contains_key(&from) {
            return false;
        }
        let tries = state.tries.entry(from).or_default();
        *tries = tries.saturating_add(1);
        *tries <= TRIES
    }

    /// Signs somebody in; returns the cookie's value.
    pub(crate) fn begin(&self, user: User, now: Instant) -> Result<String> {
        let (cookie, csrf) = (random_token()?, random_token()?);
        let mut state = self.state();
        state.sessions.retain(|_, session| session.ends > now);
        if state.sessions.len() >= SESSIONS_MAX
            && let Some(first) = state.sessions.iter().min_by_key(|(_, session)| session.ends).map(|(key, _)| *key)
        {
            state.sessions.remove(&first);
        }
        state.sessions.insert(key(&cookie), Session { user, csrf, ends: now + LIFETIME, rights: None });
        Ok(cookie)
    }

    /// The session that a cookie names, unless it is over.
    pub(crate) fn get(&self, cookie: &str, now: Instant) -> Option<Session> {
        self.state().sessions.get(&key(cookie)).filter(|session| session.ends > now).cloned()
    }

    /// Remembers what somebody may see.
    pub(crate) fn remember(&self, cookie: &str, rights: Arc<Visible>, now: Instant) {
        if let Some(session) = self.state().sessions.get_mut(&key(cookie)) {
            session.rights = Some((now, rights));
        }
    }

    /// Signs somebody out.
    pub(crate) fn end(&self, cookie: &str) {
        self.state().sessions.remove(&key(cookie));
    }
}

#[cfg(test)]
mod tests {
    use super::super::rights::Scope;
    use super::*;

    fn somebody() -> User {
        User { name: "jane".into(), ..User::default() }
    }

    #[test]
    fn a_session_ends_by_itself_or_when_it_is_asked_to() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let cookie = sessions.begin(somebody(), now).unwrap();
        assert_eq!(sessions.get(&cookie, now).unwrap().user.name, "jane");
        assert!(sessions.get(&cookie, now + LIFETIME).is_none());
        assert!(sessions.get("another", now).is_none());
        sessions.end(&cookie);
        assert!(sessions.get(&cookie, now).is_none());
    }

    #[test]
    fn no_two_cookies_or_tokens_are_alike() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let (one, two) = (sessions.begin(somebody(), now).unwrap(), sessions.begin(somebody(), now).unwrap());
        assert_eq!(one.len(), 64);
        assert_ne!(one, two);
        assert_ne!(sessions.get(&one, now).unwrap().csrf, sessions.get(&two, now).unwrap().csrf);
        assert_ne!(sessions.get(&one, now).unwrap().csrf, one);
    }

    #[test]
    fn the_eleventh_try_of_a_minute_is_refused_to_that_address_only() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        assert!((0..TRIES).all(|_| sessions.may_try(one, now)));
        assert!(!sessions.may_try(one, now));
        assert!(sessions.may_try(two, now));
        assert!(sessions.may_try(one, now + WINDOW));
    }

    #[test]
    fn sessions_are_bounded_and_the_oldest_gives_way() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let first = sessions.begin(somebody(), now).unwrap();
        for _ in 0..SESSIONS_MAX {
            sessions.begin(somebody(), now + Duration::from_secs(1)).unwrap();
        }
        assert!(sessions.get(&first, now).is_none());
        assert_eq!(sessions.state().sessions.len(), SESSIONS_MAX);
    }

    #[test]
    fn rights_are_asked_again_after_a_while() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let cookie = sessions.begin(somebody(), now).unwrap();
        assert!(sessions.get(&cookie, now).unwrap().fresh_rights(now).is_none());
        let rights = Arc::new(Visible { apps: Scope::All, stores: Scope::All, namespaces: Scope::All });
        sessions.remember(&cookie, rights, now);
        assert!(sessions.get(&cookie, now).unwrap().fresh_rights(now).is_some());
        assert!(sessions.get(&cookie, now).unwrap().fresh_rights(now + RIGHTS_LIFETIME).is_none());
    }
}
