//! Files that the config names: read when it is, so that a core never waits for one.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::path;
use crate::config::NOT_OURS;
use crate::config::reader::Value;
use crate::config::report::quote;
use crate::config::units::show_size;

/// The bytes of a file of at most `bytes_max`, and its path, which begins in `folder`. `too_large` is the mend where it
/// has more.
pub(super) fn read(
    folder: &Path,
    value: &Value<'_, '_>,
    bytes_max: u64,
    too_large: &str,
) -> Option<(PathBuf, Vec<u8>)> {
    let file = folder.join(path(value)?);
    let shown = quote(value.string()?);
    match bytes_of(&file, bytes_max) {
        Ok(bytes) if bytes.len() as u64 > bytes_max => {
            value.error(format!("{shown} is larger than {}", show_size(bytes_max)), too_large);
            None
        }
        Ok(bytes) => Some((file, bytes)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            value.error(format!("{shown} may not be read"), NOT_OURS);
            None
        }
        Err(error) => {
            let error = error.to_string().replace("; ", ", ").replace('\n', " ");
            let cause = format!("{shown} can't be read ({error})");
            value.error(cause, "check the path: it begins in the folder of the config file");
            None
        }
    }
}

fn bytes_of(file: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    // Something that is no file (a pipe, say) might never end.
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    File::open(file)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
