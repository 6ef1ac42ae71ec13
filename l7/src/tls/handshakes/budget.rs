//! How much of a pass handshakes may have.
//!
//! Work is counted in units of about 10 µs. A pass without packets has [`HandshakeLimits::work_per_pass`] of them, which a
//! step that is begun with the last one may exceed. Packets come first: where a pass has some, a unit is there for each
//! [`PACKETS_PER_UNIT`] of them, and what a step takes beyond that is missing in the next passes.
//!
//! [`HandshakeLimits::work_per_pass`]: super::HandshakeLimits::work_per_pass

use std::mem;

/// Units of a hello, of either side: a key exchange, a signature by P-256. 110 µs by X25519, 185 µs by X25519MLKEM768.
pub const HELLO: u32 = 16;
/// Of any other step of a client's: its Finished, from which the keys of both ways follow, and tickets. 40 to 50 µs.
pub const STEP: u32 = 5;
/// Of a record that changes nothing, and of giving a step to a helper: a few µs.
pub const TRIFLE: u32 = 1;
/// Of a handshake that helpers do: what is left to the core, for its connection too. About 40 µs in a flood.
pub const HELPED: u32 = 4;
/// Of a chain of certificates that the core has to verify itself.
pub const VERIFY: u32 = 16;

/// Packets of a busy core for each unit. What it does for a request takes 1 to 3 µs, so that handshakes have a fifth of
/// its time at most.
pub const PACKETS_PER_UNIT: u32 = 32;
/// Units that are saved up while a core is busy: no pass gets much longer by them.
pub const BESIDE_MAX: u32 = 2;
/// With so many packets in a pass a core is busy: a step would make that pass longer by half, so that it is a helper's,
/// if one has room.
const BUSY: u32 = 32;
/// Handshakes that are taken back from the helpers in a pass with packets.
const BACK_MAX: usize = 4;

/// Of one core.
#[derive(Default)]
pub(super) struct Budget {
    /// Packets of this pass so far.
    packets: u32,
    /// Packets whose units are not used up; below 0: units were used for such as are to come.
    credit: i32,
    /// Units of this pass.
    done: u32,
    is_busy: bool,
    back_max: usize,
}

impl Budget {
    /// This pass has so many packets.
    #[inline]
    pub fn beside(&mut self, packets: u32) {
        self.packets = self.packets.saturating_add(packets);
    }

    /// A pass begins its work, of which it has so much where there are no packets.
    pub fn begin(&mut self, alone: u32) {
        let packets = mem::take(&mut self.packets);
        self.done = 0;
        self.is_busy = packets >= BUSY;
        self.back_max = if packets == 0 { usize::MAX } else { BACK_MAX };
        self.credit = match packets {
            0 => worth(alone),
            _ => (self.credit + packets as i32).min(worth(BESIDE_MAX)),
        };
    }

    /// Whether a step may be begun.
    pub fn has_some(&self) -> bool {
        worth(self.done) < self.credit
    }

    /// A step has taken so much.
    pub fn spend(&mut self, units: u32) {
        self.done += units;
    }

    /// The pass has done its work.
    pub fn end(&mut self) {
        self.credit -= worth(self.done);
    }

    /// Whether the core has so much else to do that steps had better be done elsewhere.
    pub fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Handshakes that may be taken back in this pass.
    pub fn back_max(&self) -> usize {
        self.back_max
    }
}

/// In packets.
fn worth(units: u32) -> i32 {
    (units * PACKETS_PER_UNIT) as i32
}
