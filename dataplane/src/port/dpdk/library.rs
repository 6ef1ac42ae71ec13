//! What is known of DPDK without starting it.
#![allow(unsafe_code)] // A call of libdpdk that gives a C string.

use std::ffi::CStr;
use std::path::PathBuf;

use dpdk_sys as sys;

/// What it calls itself: `DPDK 22.11.11`.
pub fn version() -> String {
    // SAFETY: needs no EAL; gives a C string that is never freed.
    unsafe { CStr::from_ptr(sys::rte_version()) }.to_string_lossy().into_owned()
}

/// The folder that EAL loads all drivers from; `None`: they are in the program.
pub fn drivers() -> Option<PathBuf> {
    if cfg!(feature = "dpdk-static") {
        return None;
    }
    let folder = CStr::from_bytes_with_nul(sys::RTE_EAL_PMD_PATH).ok()?.to_str().ok()?;
    Some(PathBuf::from(folder))
}
