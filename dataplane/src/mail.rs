//! Mail between cores: bounded, by copy.
//!
//! ```text
//!  core A ──┐  letter: frame or note, copied in
//!  core B ──┼──► [full ring] ──► core C, once in a pass
//!           └◄── [empty ring] ◄──┘      and C's bell, when it sleeps
//! ```
//!
//! Every core has one box that all others write to. The letters of a box are made once and circulate between two
//! bounded lock-free rings, as the frames of a [`mem`](crate::port::mem) wire do: nothing is allocated afterwards. A
//! full box refuses; what that means is the sender's to decide, and to count. What is in a letter is its users'
//! business: the post knows bytes.
//!
//! Mail is for what a device's distribution of packets over cores gets wrong, and for news: rare by design. A core
//! that gets none pays two loads in a pass.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use crate::bell::Bells;

/// One letter: a few fields, whose meaning the users agree on, and bytes.
pub struct Letter {
    /// What kind of letter it is.
    pub kind: u8,
    /// The port that it is about.
    pub port: u8,
    /// How often it was passed on.
    pub hops: u8,
    len: usize,
    bytes: Box<[u8]>,
}

impl Letter {
    /// What is written.
    pub fn text(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Writes; `false` when it does not fit.
    pub fn write(&mut self, text: &[u8]) -> bool {
        let Some(room) = self.bytes.get_mut(..text.len()) else { return false };
        room.copy_from_slice(text);
        self.len = text.len();
        true
    }
}

struct Mailbox {
    full: ArrayQueue<Box<Letter>>,
    empty: ArrayQueue<Box<Letter>>,
}

/// The post of a node: a box for each core.
pub struct Post {
    boxes: Box<[Mailbox]>,
    letters: usize,
    bells: Arc<Bells>,
}

impl Post {
    /// Boxes for as many cores as there are bells, of `letters` letters of up to `letter_bytes` bytes each.
    pub fn new(letters: usize, letter_bytes: usize, bells: Arc<Bells>) -> Arc<Post> {
        let mailbox = |_| {
            let b = Mailbox { full: ArrayQueue::new(letters), empty: ArrayQueue::new(letters) };
            for _ in 0..letters {
                // Not zeros, which the kernel would give pages to at the first use only: on the hot path.
                let bytes = vec![0xff; letter_bytes].into();
                // Cannot fail: the ring has room for exactly these.
                let _ = b.empty.push(Box::new(Letter { kind: 0, port: 0, hops: 0, len: 0, bytes }));
            }
            b
        };
        Arc::new(Post { boxes: (0..bells.cores()).map(mailbox).collect(), letters, bells })
    }

    /// How many cores there are.
    pub fn cores(&self) -> usize {
        self.boxes.len()
    }

    /// Sends a letter that `fill` writes (`false`: not sent after all), and wakes the reader. `false` when the box
    /// is full.
    pub fn send(&self, to: usize, fill: impl FnOnce(&mut Letter) -> bool) -> bool {
        let b = &self.boxes[to];
        let Some(mut letter) = b.empty.pop() else { return false };
        if !fill(&mut letter) {
            let _ = b.empty.push(letter);
            return false;
        }
        let sent = b.full.push(letter).is_ok();
        debug_assert!(sent, "there are only as many letters as fit");
        self.bells.ring(to);
        sent
    }

    /// Whether less than half of a box is free: time to send only what must be.
    pub fn is_crowded(&self, to: usize) -> bool {
        self.boxes[to].empty.len() < self.letters / 2
    }

    /// Whether a letter waits for `core`.
    #[inline]
    pub fn waits(&self, core: usize) -> bool {
        !self.boxes[core].full.is_empty()
    }

    /// Takes the next letter of `core`, which alone may do so; `None` when there is none.
    pub fn take<R>(&self, core: usize, read: impl FnOnce(&Letter) -> R) -> Option<R> {
        let b = &self.boxes[core];
        let letter = b.full.pop()?;
        let r = read(&letter);
        let _ = b.empty.push(letter);
        Some(r)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(cores: usize, letters: usize) -> Arc<Post> {
        Post::new(letters, 64, Bells::new(cores).unwrap())
    }

    #[test]
    fn letters_arrive_in_order_and_a_full_box_refuses() {
        let p = post(2, 4);
        assert!(!p.waits(1));
        for i in 0..4u8 {
            assert!(p.send(1, |l| {
                (l.kind, l.port, l.hops) = (7, i, 1);
                l.write(&[i; 3])
            }));
            assert_eq!(p.is_crowded(1), i > 1, "after {i}");
        }
        assert!(!p.send(1, |_| true), "full");
        assert!(p.send(0, |l| l.write(&[])), "the other box is not");
        for i in 0..4u8 {
            let got = p.take(1, |l| (l.kind, l.port, l.hops, l.text().to_vec()));
            assert_eq!(got, Some((7, i, 1, vec![i; 3])));
        }
        assert!(!p.waits(1) && p.take(1, |_| ()).is_none());
        assert!(!p.send(1, |l| l.write(&[0; 65])), "too long");
        assert!(!p.is_crowded(1), "every letter is back");
    }

    #[test]
    fn many_senders_one_reader() {
        let p = post(3, 8);
        let n = 20_000u32;
        let mut seen = [0u32; 2];
        std::thread::scope(|s| {
            for from in 0..2u8 {
                let p = &p;
                s.spawn(move || {
                    for i in 0..n {
                        while !p.send(2, |l| {
                            l.port = from;
                            l.write(&i.to_le_bytes())
                        }) {
                            std::thread::yield_now();
                        }
                    }
                });
            }
            while seen != [n; 2] {
                let got = p.take(2, |l| (l.port, u32::from_le_bytes(l.text().try_into().unwrap())));
                match got {
                    Some((from, i)) => {
                        assert_eq!(i, seen[usize::from(from)], "each sender's in order");
                        seen[usize::from(from)] += 1;
                    }
                    None => std::thread::yield_now(),
                }
            }
        });
    }
}
