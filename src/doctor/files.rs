//! Reading a host's files below a root. What is not there, or may not be read, is `None` or empty.

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

/// The files of a host.
pub struct Files {
    root: PathBuf,
}

impl Files {
    pub fn new(root: &Path) -> Files {
        Files { root: root.to_path_buf() }
    }

    /// Where the host's `path` lies.
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Whether this is the host that we run on, and not one made of files.
    pub fn real(&self) -> bool {
        self.root == Path::new("/")
    }

    /// What a file says, without the white space around it.
    pub fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.at(path)).ok().map(|text| text.trim().to_owned())
    }

    pub fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// As [`Files::number`], of what the kernel writes as `0x8086`.
    pub fn hex(&self, path: &str) -> Option<u32> {
        u32::from_str_radix(self.text(path)?.trim_start_matches("0x"), 16).ok()
    }

    /// The names in a folder, sorted.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.at(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// What a link points to: the last part of it, as in `driver -> ../../bus/pci/drivers/ice`.
    pub fn link(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.at(path)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.facts(path).is_some()
    }

    pub fn facts(&self, path: impl AsRef<Path>) -> Option<Metadata> {
        fs::metadata(self.at(path)).ok()
    }

    /// A list of CPUs or nodes as the kernel writes it; empty where there is no such file.
    pub fn list(&self, path: &str) -> Vec<u32> {
        parse_list(&self.text(path).unwrap_or_default())
    }
}

/// `0-3,8` as numbers. A range that makes no sense is left out.
pub fn parse_list(text: &str) -> Vec<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
        (last < 1 << 16).then_some(first..=last)
    };
    text.split(',').filter_map(range).flatten().collect()
}

/// Numbers, sorted, as `0-3,8`.
pub fn show_list(numbers: &[u32]) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for &n in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == n => *last = n,
            _ => parts.push((n, n)),
        }
    }
    let show = |&(a, b): &(u32, u32)| if a == b { a.to_string() } else { format!("{a}-{b}") };
    parts.iter().map(show).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_numbers() {
        assert_eq!(parse_list("0-3,8"), [0, 1, 2, 3, 8]);
        assert_eq!(show_list(&[0, 1, 2, 3, 8]), "0-3,8");
        for odd in ["", "x", "3-", "0-4294967295"] {
            assert_eq!(parse_list(odd), [0; 0], "{odd:?}");
        }
        assert_eq!(show_list(&[]), "");
    }
}
