//! One reserved stretch of address space, in the largest pages that the host gives.
//!
//! The steps are 1 GiB pages, 2 MiB pages, normal pages; each failed step is kept as an [`Attempt`] so
//! that the start-up report can say what was tried and what to run. Everything is touched once, here, so
//! that no page fault is left for the data cores. Works without root and without hugepages.
#![allow(unsafe_code)] // mmap and munmap: memory that Rust did not give.

use std::fmt;
use std::ptr::NonNull;

/// The size of the pages behind a [`Region`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageSize {
    /// 1 GiB hugetlb pages.
    Huge1G,
    /// 2 MiB hugetlb pages.
    Huge2M,
    /// The kernel's normal pages (transparent hugepages are asked for, not relied on).
    Normal,
}

impl PageSize {
    /// Bytes in one page.
    pub const fn bytes(self) -> usize {
        match self {
            PageSize::Huge1G => 1 << 30,
            PageSize::Huge2M => 2 << 20,
            PageSize::Normal => 4 << 10,
        }
    }

    fn mmap_flags(self) -> libc::c_int {
        match self {
            PageSize::Huge1G => libc::MAP_HUGETLB | (30 << libc::MAP_HUGE_SHIFT),
            PageSize::Huge2M => libc::MAP_HUGETLB | (21 << libc::MAP_HUGE_SHIFT),
            PageSize::Normal => 0,
        }
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PageSize::Huge1G => "1 GiB pages",
            PageSize::Huge2M => "2 MiB pages",
            PageSize::Normal => "normal pages",
        })
    }
}

/// Which pages may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PagePolicy {
    /// The largest that can be had.
    #[default]
    Best,
    /// Hugepages, or an error.
    HugeOnly,
    /// Normal pages only (the simulator, tests).
    NormalOnly,
}

/// A step that did not work.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The page size asked for.
    pub page: PageSize,
    /// Pages needed.
    pub pages: usize,
    /// The kernel's answer.
    pub error: String,
}

/// No page size could be had.
#[derive(Debug)]
pub struct ReserveError {
    /// Bytes asked for.
    pub bytes: usize,
    /// Every step.
    pub attempts: Vec<Attempt>,
}

impl fmt::Display for ReserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot reserve {}", crate::human_bytes(self.bytes))?;
        for a in &self.attempts {
            write!(f, "; {} × {}: {}", a.pages, a.page, a.error)?;
        }
        let pages_2m = self.bytes.div_ceil(PageSize::Huge2M.bytes());
        write!(
            f,
            "; set a smaller [node] memory, or reserve hugepages as root with: \
             echo {pages_2m} > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
        )
    }
}

impl std::error::Error for ReserveError {}

/// A reserved, zeroed, touched stretch of memory; unmapped on drop.
pub struct Region {
    base: NonNull<u8>,
    len: usize,
    page: PageSize,
    attempts: Vec<Attempt>,
}

// SAFETY: a Region owns its mapping; it gives out raw addresses only, and those carry their own rules.
unsafe impl Send for Region {}
// SAFETY: as above; no method reads or writes the mapped memory.
unsafe impl Sync for Region {}

impl Region {
    /// Reserves at least `bytes`, zeroed and touched.
    ///
    /// # Errors
    /// [`ReserveError`] with every step tried, when `policy` leaves none that works.
    pub fn reserve(bytes: usize, policy: PagePolicy) -> Result<Region, ReserveError> {
        let steps: &[PageSize] = match policy {
            // A 1 GiB page for a few MiB would waste the rest of it.
            PagePolicy::Best if bytes >= 1 << 30 => &[PageSize::Huge1G, PageSize::Huge2M, PageSize::Normal],
            PagePolicy::Best => &[PageSize::Huge2M, PageSize::Normal],
            PagePolicy::HugeOnly if bytes >= 1 << 30 => &[PageSize::Huge1G, PageSize::Huge2M],
            PagePolicy::HugeOnly => &[PageSize::Huge2M],
            PagePolicy::NormalOnly => &[PageSize::Normal],
        };
        // DPDK, which another node may be starting, counts pages before it takes them.
        let _turn = (policy != PagePolicy::NormalOnly).then(crate::turn);
        let mut attempts = Vec::new();
        for &page in steps {
            let len = bytes.max(1).next_multiple_of(page.bytes());
            match map(len, page) {
                Ok(base) => return Ok(Region { base, len, page, attempts }),
                Err(error) => {
                    attempts.push(Attempt { page, pages: len / page.bytes(), error: error.to_string() })
                }
            }
        }
        Err(ReserveError { bytes, attempts })
    }

    /// First byte. Valid for [`Region::len`] bytes until the region is dropped.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes reserved, a multiple of the page size.
    #[allow(clippy::len_without_is_empty)] // A region is never empty.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The pages that were had.
    pub fn page(&self) -> PageSize {
        self.page
    }

    /// The better steps that did not work.
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }
}

fn map(len: usize, page: PageSize) -> std::io::Result<NonNull<u8>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | page.mmap_flags();
    // Populate hugepages in the call: without it a shortage would show as SIGBUS at first touch.
    let populate = if page == PageSize::Normal { 0 } else { libc::MAP_POPULATE };
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nothing of ours.
    let p = unsafe {
        libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags | populate, -1, 0)
    };
    if p == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error());
    }
    if page == PageSize::Normal {
        // SAFETY: [p, p+len) is the mapping just made. Advice may be refused, which changes nothing; the
        // populate step then backs it with whatever pages there are.
        unsafe {
            libc::madvise(p, len, libc::MADV_HUGEPAGE);
            libc::madvise(p, len, libc::MADV_POPULATE_WRITE);
        }
    }
    NonNull::new(p.cast()).ok_or_else(|| std::io::Error::other("mmap gave address 0"))
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `map`; whoever holds addresses in it also holds the Region.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn falls_back_to_normal_pages_and_says_why() {
        let r = Region::reserve(3 << 20, PagePolicy::Best).unwrap();
        assert!(r.len() >= 3 << 20);
        if r.page() == PageSize::Normal {
            assert_eq!(r.attempts().len(), 1);
            assert_eq!(r.attempts()[0].page, PageSize::Huge2M);
            assert_eq!(r.attempts()[0].pages, 2);
        }
    }

    #[test]
    fn impossible_size_names_the_mend() {
        let e = Region::reserve(1 << 50, PagePolicy::Best).err().expect("a petabyte");
        let text = e.to_string();
        assert!(text.contains("nr_hugepages"), "{text}");
        assert_eq!(e.attempts.len(), 3);
    }
}
