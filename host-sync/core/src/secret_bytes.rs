//! Secret bytes, and the types that hold them: nothing here can be printed, logged or serialised by accident.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

/// The bytes of one secret. No Display, no Serialize, a Debug that says nothing, and memory that is wiped on drop.
#[derive(Clone)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes the bytes; the vector is the only copy that this makes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes themselves. Only a backend, the codec of Secrets and the comparison with a Secret have a reason to call it.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for SecretBytes {
    /// Compares without stopping at the first difference, so that the time taken says nothing but the length.
    fn eq(&self, other: &Self) -> bool {
        let (one, two) = (self.expose(), other.expose());
        one.len() == two.len() && one.iter().zip(two).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

impl Eq for SecretBytes {}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(redacted)")
    }
}

/// The longest key of a Secret, in bytes (Kubernetes' limit).
pub const KEY_MAX: usize = 253;

/// A key that a Kubernetes Secret can hold. A key's name is no secret.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// A key that Kubernetes cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "Kubernetes cannot hold a key named {name:?} (at most {KEY_MAX} letters, digits, '-', '_' and '.', not beginning with '..'): rename it with keys: [{{name: …, as: …}}] in the App"
)]
pub struct KeyError {
    name: String,
}

impl Key {
    /// Parses a key's name. Source of the rule: Kubernetes' `IsConfigMapKey`.
    pub fn parse(name: &str) -> Result<Self, KeyError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let valid = !name.is_empty()
            && name.len() <= KEY_MAX
            && name.bytes().all(allowed)
            && name != "."
            && !name.starts_with("..");
        if valid { Ok(Self(name.to_owned())) } else { Err(KeyError { name: name.to_owned() }) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// What one Secret holds, or is to hold.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Content(BTreeMap<Key, SecretBytes>);

impl Content {
    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes of one key.
    pub fn get(&self, key: &Key) -> Option<&SecretBytes> {
        self.0.get(key)
    }

    /// The keys and their bytes, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &SecretBytes)> {
        self.0.iter()
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.0.keys()
    }

    /// The size of all keys and values, in bytes.
    pub fn total_bytes(&self) -> usize {
        self.iter().map(|(key, value)| key.as_str().len() + value.expose().len()).sum()
    }

    /// The one byte form of the content that its revision is computed over: for each key in order, the key and the value,
    /// each behind its length as eight big-endian bytes, so that no two contents share a form.
    pub fn canonical_bytes(&self) -> Zeroizing<Vec<u8>> {
        let parts = || self.iter().flat_map(|(key, value)| [key.as_str().as_bytes(), value.expose()]);
        // Reserved in full, because growing would leave unwiped copies behind.
        let size = parts().map(|part| part.len() + 8).sum();
        let mut bytes = Zeroizing::new(Vec::with_capacity(size));
        for part in parts() {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }
}

impl FromIterator<(Key, SecretBytes)> for Content {
    fn from_iter<I: IntoIterator<Item = (Key, SecretBytes)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Content")?;
        f.debug_set().entries(self.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(entries: &[(&str, &str)]) -> Content {
        entries.iter().map(|(k, v)| (Key::parse(k).unwrap(), SecretBytes::new(v.as_bytes().to_vec()))).collect()
    }

    #[test]
    fn debug_output_names_keys_and_never_shows_bytes() {
        let shown = format!("{:?} {:?}", content(&[("TOKEN", "hunter2")]), SecretBytes::new(b"hunter2".to_vec()));
        assert_eq!(shown, "Content{\"TOKEN\"} SecretBytes(redacted)");
    }

    #[test]
    fn two_contents_never_share_a_canonical_form() {
        assert_ne!(
            *content(&[("A", "xB"), ("C", "y")]).canonical_bytes(),
            *content(&[("A", "x"), ("BC", "y")]).canonical_bytes()
        );
        assert_ne!(*content(&[("A", "")]).canonical_bytes(), *content(&[]).canonical_bytes());
    }

    #[test]
    fn keys_that_kubernetes_cannot_hold_are_refused_by_name() {
        for bad in ["", "DB PASSWORD", ".", "..", "..data", "ключ", &"k".repeat(254)] {
            assert!(Key::parse(bad).is_err(), "{bad}");
        }
        for good in ["DB_PASSWORD", "tls.crt", ".dockerconfigjson", "0"] {
            assert!(Key::parse(good).is_ok(), "{good}");
        }
        assert!(Key::parse("DB PASSWORD").unwrap_err().to_string().contains("\"DB PASSWORD\""));
    }

    #[test]
    fn equality_compares_every_byte() {
        assert_eq!(content(&[("A", "same")]), content(&[("A", "same")]));
        assert_ne!(content(&[("A", "same")]), content(&[("A", "samf")]));
        assert_ne!(content(&[("A", "same")]), content(&[("A", "same ")]));
    }
}
