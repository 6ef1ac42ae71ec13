//! What is kept between runs: the account, and a key with its chain for each site. A file is whole or is not there.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The file of a site's key and chain; `name` is the first of its names.
pub fn certificate_file(storage: &Path, name: &str) -> PathBuf {
    storage.join(format!("{name}.pem"))
}

/// The file of the account.
pub(super) fn account_file(storage: &Path) -> PathBuf {
    storage.join("account.json")
}

/// The text of a file, if there is one.
///
/// # Errors
/// One sentence with the mend.
pub(super) fn read(file: &Path) -> Result<Option<String>, String> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(format!("cannot read {}: {e}; mend that, or remove it", file.display())),
    }
}

/// Puts a file, that its owner alone may read, in the place of what was there.
///
/// # Errors
/// One sentence with the mend.
pub(super) fn write(file: &Path, text: &str) -> Result<(), String> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let half = folder.join(format!(".half.{}", std::process::id()));
    let written = written(folder, &half, text).and_then(|()| fs::rename(&half, file));
    // The name is on the disk when its folder is.
    let written = written.and_then(|()| fs::File::open(folder)?.sync_all());
    written.map_err(|e| {
        let _ = fs::remove_file(&half);
        format!(
            "cannot write {}: {e}; give the node a \"storage\" of [acme] that it may write to",
            file.display()
        )
    })
}

fn written(folder: &Path, half: &Path, text: &str) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // Left by a run that was cut short.
    let _ = fs::remove_file(half);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(half)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
