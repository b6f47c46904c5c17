//! The file store's files, saved as careful programs save: whole, by renaming.

use std::fs;

use anyhow::{Context, Result};

use super::Installation;

impl Installation {
    /// Saves a file of the store, such as `checkout/production.env`.
    pub fn save(&self, path: &str, text: &str) -> Result<()> {
        let file = self.store.join(path);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        let part = file.with_extension("part~");
        fs::write(&part, text).with_context(|| format!("writing {}", part.display()))?;
        fs::rename(&part, &file).with_context(|| format!("renaming {}", part.display()))
    }

    /// Removes a file of the store.
    pub fn remove(&self, path: &str) -> Result<()> {
        let file = self.store.join(path);
        fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))
    }
}
