//! Two devices of `net_ring` that are each other's far end, in one process: for tests and benches. A `net_ring` without
//! this receives what it sends itself.
#![allow(unsafe_code)]

use std::ffi::{CString, c_uint, c_void};
use std::ptr::NonNull;

use dpdk_sys as sys;

use super::eal::{Eal, last_error};

/// Frames that a ring holds, less one.
const SLOTS: u32 = 1024;

/// What `net_ring` takes in its argument `internal`: its own `struct ring_internal_args`.
#[repr(C)]
struct Arguments {
    rx_queues: *const *mut sys::rte_ring,
    nb_rx_queues: c_uint,
    tx_queues: *const *mut sys::rte_ring,
    nb_tx_queues: c_uint,
    numa_node: c_uint,
    itself: *const c_void,
}

/// The rings between the two devices. Must be dropped after the ports that were opened on them.
pub struct CrossedRings {
    names: [String; 2],
    rings: [Vec<*mut sys::rte_ring>; 2],
    // The driver reads them when a device is made.
    arguments: [NonNull<Arguments>; 2],
}

impl CrossedRings {
    /// Rings for devices `net_ring_NAME_0` and `net_ring_NAME_1`, with so many queues each: what the one sends to its queue
    /// n, the other receives from its queue n.
    ///
    /// # Errors
    /// One sentence.
    pub fn new(_eal: Eal, name: &str, queues: usize) -> Result<CrossedRings, String> {
        let mut me = CrossedRings {
            names: [0, 1].map(|side| format!("net_ring_{name}_{side}")),
            rings: [Vec::new(), Vec::new()],
            arguments: [NonNull::dangling(); 2],
        };
        for side in 0..2 {
            for queue in 0..queues {
                let ring = CString::new(format!("{name}-{side}-{queue}")).map_err(|e| e.to_string())?;
                // SAFETY: EAL runs: there is an `Eal`; a C string.
                let ring = unsafe { sys::rte_ring_create(ring.as_ptr(), SLOTS, -1, 0) };
                if ring.is_null() {
                    return Err(format!("no ring {name}: {}", last_error()));
                }
                me.rings[side].push(ring);
            }
        }
        for side in 0..2 {
            let (rx, tx) = (&me.rings[side], &me.rings[1 - side]);
            let arguments = NonNull::from(Box::leak(Box::new(Arguments {
                rx_queues: rx.as_ptr(),
                nb_rx_queues: rx.len() as c_uint,
                tx_queues: tx.as_ptr(),
                nb_tx_queues: tx.len() as c_uint,
                numa_node: 0,
                itself: std::ptr::null(),
            })));
            // SAFETY: just made.
            unsafe { (*arguments.as_ptr()).itself = arguments.as_ptr().cast() };
            me.arguments[side] = arguments;
        }
        Ok(me)
    }

    /// What [`super::DpdkConfig::device`] calls the one side or the other.
    pub fn device(&self, side: usize) -> String {
        format!("{},internal={:p}", self.names[side], self.arguments[side].as_ptr())
    }

    /// The ring of queue 0 that this side receives from.
    pub(super) fn received_by(&self, side: usize) -> *mut sys::rte_ring {
        self.rings[side][0]
    }
}

impl Drop for CrossedRings {
    fn drop(&mut self) {
        for &ring in self.rings.iter().flatten() {
            // SAFETY: made here; the ports on it are closed, as the type says.
            unsafe { sys::rte_ring_free(ring) };
        }
        for arguments in self.arguments {
            if arguments != NonNull::dangling() {
                // SAFETY: made by Box::leak, and read only when a device is made.
                drop(unsafe { Box::from_raw(arguments.as_ptr()) });
            }
        }
    }
}
