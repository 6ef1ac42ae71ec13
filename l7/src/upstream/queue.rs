//! Requests for which no origin has room: first come, first served, bounded in number and in time.

use dataplane::Time;

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u32);

const NIL: u32 = u32::MAX;

/// A bounded queue of waiting requests, each known by a number of its owner's.
#[derive(Debug)]
pub struct WaitQueue {
    nodes: Box<[Node]>,
    timeout_ns: u64,
    head: u32,
    tail: u32,
    free: u32,
    len: u32,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    id: u32,
    prev: u32,
    /// In the queue the one behind, else the next free one.
    next: u32,
    waiting: bool,
    deadline: Time,
}

impl WaitQueue {
    /// A queue of at most `max` requests, each for at most `timeout_ns`.
    pub fn new(max: u32, timeout_ns: u64) -> WaitQueue {
        let node = |i| Node {
            id: 0,
            prev: NIL,
            next: if i + 1 < max { i + 1 } else { NIL },
            waiting: false,
            deadline: Time(0),
        };
        let free = if max > 0 { 0 } else { NIL };
        WaitQueue { nodes: (0..max).map(node).collect(), timeout_ns, head: NIL, tail: NIL, free, len: 0 }
    }

    /// Requests that wait.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts a request at the end; `None` when the queue is full: answer 503.
    pub fn push(&mut self, id: u32, now: Time) -> Option<Ticket> {
        let i = self.free;
        let tail = self.tail;
        let node = self.nodes.get_mut(i as usize)?;
        self.free = node.next;
        *node = Node { id, prev: tail, next: NIL, waiting: true, deadline: now.plus_ns(self.timeout_ns) };
        match self.nodes.get_mut(tail as usize) {
            Some(before) => before.next = i,
            None => self.head = i,
        }
        self.tail = i;
        self.len += 1;
        Some(Ticket(i))
    }

    /// Takes the first one, for which there is room now.
    pub fn pop(&mut self) -> Option<u32> {
        self.take(self.head)
    }

    /// The first one's deadline; [`Time::NEVER`] when none waits. All wait equally long: nobody's is earlier.
    pub fn next_deadline(&self) -> Time {
        self.nodes.get(self.head as usize).map_or(Time::NEVER, |n| n.deadline)
    }

    /// Takes one whose time is over: answer 503.
    pub fn expired(&mut self, now: Time) -> Option<u32> {
        if self.next_deadline() > now { None } else { self.pop() }
    }

    /// The request is gone: it waits no longer. False when it did not wait.
    pub fn cancel(&mut self, ticket: Ticket, id: u32) -> bool {
        let waits = self.nodes.get(ticket.0 as usize).is_some_and(|n| n.waiting && n.id == id);
        waits && self.take(ticket.0).is_some()
    }

    fn take(&mut self, i: u32) -> Option<u32> {
        let Node { id, prev, next, .. } = *self.nodes.get(i as usize)?;
        match self.nodes.get_mut(prev as usize) {
            Some(before) => before.next = next,
            None => self.head = next,
        }
        match self.nodes.get_mut(next as usize) {
            Some(behind) => behind.prev = prev,
            None => self.tail = prev,
        }
        let node = &mut self.nodes[i as usize];
        node.waiting = false;
        node.next = self.free;
        self.free = i;
        self.len -= 1;
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn first_come_first_served_and_bounded() {
        let mut q = WaitQueue::new(2, 100);
        assert_eq!((q.pop(), q.next_deadline()), (None, Time::NEVER));
        let a = q.push(7, Time(0)).expect("room");
        let b = q.push(8, Time(10)).expect("room");
        assert_eq!(q.push(9, Time(11)), None);
        assert_eq!((q.expired(Time(99)), q.expired(Time(100)), q.expired(Time(100))), (None, Some(7), None));
        assert!(!q.cancel(a, 7), "it does not wait any more");
        assert!(q.push(9, Time(50)).is_some());
        assert!(!q.cancel(b, 7) && q.cancel(b, 8));
        assert_eq!((q.pop(), q.pop(), q.len()), (Some(9), None, 0));
        assert_eq!(WaitQueue::new(0, 1).push(1, Time(0)), None);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Push,
        Pop,
        Cancel(usize),
        Expire,
        Wait(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => Just(Op::Push),
            2 => Just(Op::Pop),
            2 => any::<usize>().prop_map(Op::Cancel),
            1 => Just(Op::Expire),
            2 => (0u64..40).prop_map(Op::Wait),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_is_a_queue(ops in proptest::collection::vec(op(), 0..200)) {
            let mut q = WaitQueue::new(8, 50);
            let mut model: VecDeque<(u32, Ticket, u64)> = VecDeque::new();
            let (mut now, mut id) = (0, 0);
            for op in ops {
                match op {
                    Op::Push => {
                        id += 1;
                        let ticket = q.push(id, Time(now));
                        prop_assert_eq!(ticket.is_some(), model.len() < 8);
                        model.extend(ticket.map(|t| (id, t, now + 50)));
                    }
                    Op::Pop => prop_assert_eq!(q.pop(), model.pop_front().map(|m| m.0)),
                    Op::Cancel(i) if !model.is_empty() => {
                        let (id, ticket, _) = model.remove(i % model.len()).expect("within");
                        prop_assert!(q.cancel(ticket, id));
                    }
                    Op::Cancel(_) => {}
                    Op::Expire => {
                        let over = model.front().is_some_and(|m| m.2 <= now);
                        let expected = if over { model.pop_front().map(|m| m.0) } else { None };
                        prop_assert_eq!(q.expired(Time(now)), expected);
                    }
                    Op::Wait(n) => now += n,
                }
                prop_assert_eq!(q.len(), model.len());
            }
        }
    }
}
