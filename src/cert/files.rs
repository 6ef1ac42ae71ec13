//! Files that belong together: all of them are written, or none is touched.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Writes files (name, text, mode) into a folder, which is made where there is none. A file that is there already stays
/// as it is, and then nothing is written; with `force` it is replaced.
///
/// # Errors
/// One sentence with the mend.
pub(super) fn write(folder: &Path, files: &[(&str, String, u32)], force: bool) -> Result<(), String> {
    let cannot = |what: &Path, e: &std::io::Error| {
        format!("cannot write {}: {e}; choose another --out", what.display())
    };
    fs::create_dir_all(folder).map_err(|e| cannot(folder, &e))?;
    if !force && let Some((name, ..)) = files.iter().find(|(name, ..)| folder.join(name).exists()) {
        let file = folder.join(name);
        return Err(format!(
            "{} is there already; choose another --out, or --force to replace it",
            file.display()
        ));
    }
    let mut written = Written(Vec::new());
    for (name, text, mode) in files {
        let half = folder.join(format!(".{name}.{}", std::process::id()));
        let mut options = OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(*mode).open(&half);
        let mut file = opened.map_err(|e| cannot(&half, &e))?;
        written.0.push(half.clone());
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|e| cannot(&half, &e))?;
    }
    for (half, (name, ..)) in written.0.iter().zip(files) {
        let file = folder.join(name);
        // A link, unlike a renaming, takes the place of nothing that has come in between.
        let done = if force { fs::rename(half, &file) } else { fs::hard_link(half, &file) };
        done.map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => format!("{} is there already; choose another --out", file.display()),
            _ => cannot(&file, &e),
        })?;
    }
    Ok(())
}

/// Files under their first names: gone in any case.
struct Written(Vec<PathBuf>);

impl Drop for Written {
    fn drop(&mut self) {
        for half in &self.0 {
            let _ = fs::remove_file(half);
        }
    }
}
