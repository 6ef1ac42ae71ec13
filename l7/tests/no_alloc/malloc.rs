//! malloc and its family interposed, and counted: for what a library in C allocates too.

#![allow(unsafe_code)] // Interposing the C allocator; it only counts and passes on.

use std::cell::Cell;
use std::ffi::{c_int, c_void};

/// What a piece of work asked of the allocator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Blocks asked for, and blocks that were to change their size.
    pub allocations: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Blocks given back.
    pub frees: u64,
}

thread_local! {
    /// Whether this thread's allocations count. `const`, so that reading it in malloc allocates nothing itself.
    static ARMED: Cell<bool> = const { Cell::new(false) };
    static COUNTS: Cell<Counts> = const { Cell::new(Counts { allocations: 0, bytes: 0, frees: 0 }) };
    /// Bytes of blocks that were asked for while this thread's count, less those that were given back.
    static HELD: Cell<i64> = const { Cell::new(0) };
}

unsafe extern "C" {
    fn __libc_malloc(n: usize) -> *mut c_void;
    fn __libc_calloc(n: usize, m: usize) -> *mut c_void;
    fn __libc_realloc(p: *mut c_void, n: usize) -> *mut c_void;
    fn __libc_memalign(align: usize, n: usize) -> *mut c_void;
    fn __libc_free(p: *mut c_void);
    fn malloc_usable_size(p: *mut c_void) -> usize;
}

/// Bytes that are held by what this thread has done in [`holds`] since [`hold_anew`].
pub fn held() -> u64 {
    HELD.get().max(0) as u64
}

/// Nothing is held yet.
pub fn hold_anew() {
    HELD.set(0);
}

/// Does `work`, whose blocks count as [`held`].
pub fn holds<T>(work: impl FnOnce() -> T) -> T {
    ARMED.set(true);
    let out = work();
    ARMED.set(false);
    out
}

/// What `work` allocates on this thread.
pub fn counts_of(work: impl FnOnce()) -> Counts {
    COUNTS.set(Counts::default());
    ARMED.set(true);
    work();
    ARMED.set(false);
    COUNTS.get()
}

/// Asserts that `work` allocates nothing on this thread, and that an allocation would have been seen.
pub fn assert_none(work: impl FnOnce()) {
    assert_eq!(counts_of(work), Counts::default());
    let one = counts_of(|| drop(std::hint::black_box(Box::new([1u8; 100]))));
    assert_eq!(one, Counts { allocations: 1, bytes: 100, frees: 1 });
}

fn allocated(n: usize) {
    if ARMED.get() {
        let c = COUNTS.get();
        COUNTS.set(Counts { allocations: c.allocations + 1, bytes: c.bytes + n as u64, ..c });
    }
}

/// A block has come (`sign` 1) or goes (-1).
///
/// # Safety
/// `p` is a block of glibc's, or null.
unsafe fn holding(p: *mut c_void, sign: i64) {
    if ARMED.get() {
        // SAFETY: glibc's own block, as the caller promises; of null it gives 0.
        let bytes = unsafe { malloc_usable_size(p) } as i64;
        HELD.set(HELD.get() + sign * bytes);
    }
}

/// # Safety
/// As the C function of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc(n: usize) -> *mut c_void {
    allocated(n);
    // SAFETY: glibc's own malloc, with the caller's argument; and its block.
    unsafe {
        let p = __libc_malloc(n);
        holding(p, 1);
        p
    }
}

/// # Safety
/// As the C function of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn calloc(n: usize, m: usize) -> *mut c_void {
    allocated(n.saturating_mul(m));
    // SAFETY: glibc's own calloc, with the caller's arguments; and its block.
    unsafe {
        let p = __libc_calloc(n, m);
        holding(p, 1);
        p
    }
}

/// # Safety
/// As the C function of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn realloc(p: *mut c_void, n: usize) -> *mut c_void {
    allocated(n);
    // SAFETY: glibc's own realloc, with the caller's arguments; its block before, and after.
    unsafe {
        holding(p, -1);
        let p = __libc_realloc(p, n);
        holding(p, 1);
        p
    }
}

/// # Safety
/// As the C function of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, align: usize, n: usize) -> c_int {
    allocated(n);
    // SAFETY: glibc's own memalign; `out` is valid, as the caller of posix_memalign promises.
    unsafe {
        *out = __libc_memalign(align, n);
        holding(*out, 1);
        if (*out).is_null() { 12 } else { 0 }
    }
}

/// # Safety
/// As the C function of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free(p: *mut c_void) {
    if ARMED.get() && !p.is_null() {
        let c = COUNTS.get();
        COUNTS.set(Counts { frees: c.frees + 1, ..c });
    }
    // SAFETY: glibc's own free, of a block that glibc gave.
    unsafe {
        holding(p, -1);
        __libc_free(p)
    }
}
