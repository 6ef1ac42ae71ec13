//! The longest of many prefixes, in one walk over the bytes: a radix tree, flat.
//!
//! ```text
//!   "/api" 1, "/api/v2" 2, "/img" 3          node 0 ""  ─► 1 "/"  ─► 2 "api" =1 ─► 4 "/v2" =2
//!                                                               └─► 3 "img" =3
//! ```
//!
//! The children of a node lie side by side, so that which one goes on is one scan over their first bytes.

use std::ops::Range;

/// From prefixes to numbers. `FOLD`: in any case of letters.
#[derive(Debug)]
pub(super) struct Trie<const FOLD: bool> {
    nodes: Box<[Node]>,
    /// The first byte of each node's label.
    firsts: Box<[u8]>,
    labels: Box<[u8]>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    label: (u32, u32),
    children: (u32, u32),
    /// [`NONE`] where no prefix ends.
    value: u32,
}

const NONE: u32 = u32::MAX;

impl<const FOLD: bool> Trie<FOLD> {
    /// The tree of these prefixes. Where one comes twice, the later one counts.
    pub fn new<'n>(prefixes: impl IntoIterator<Item = (&'n [u8], u32)>) -> Self {
        let mut sorted = std::collections::BTreeMap::new();
        for (prefix, value) in prefixes {
            debug_assert!(value != NONE);
            let prefix = if FOLD { prefix.to_ascii_lowercase() } else { prefix.to_vec() };
            sorted.insert(prefix, value);
        }
        let keys: Vec<(Vec<u8>, u32)> = sorted.into_iter().collect();
        let mut nodes = vec![Node { label: (0, 0), children: (0, 0), value: NONE }];
        let (mut firsts, mut labels) = (vec![0], Vec::new());
        // Breadth first: the keys under each node, and how many of their bytes lie above it.
        let mut queue = std::collections::VecDeque::from([(0, 0..keys.len(), 0)]);
        while let Some((node, mut under, depth)) = queue.pop_front() {
            if let Some((key, value)) = keys.get(under.start)
                && !under.is_empty()
                && key.len() == depth
            {
                nodes[node].value = *value;
                under.start += 1;
            }
            let begin = nodes.len() as u32;
            while !under.is_empty() {
                let same = branch(&keys, &mut under, depth);
                let shared = common(&keys[same.start].0, &keys[same.end - 1].0);
                let label = &keys[same.start].0[depth..shared];
                firsts.push(label[0]);
                let start = labels.len() as u32;
                labels.extend_from_slice(label);
                queue.push_back((nodes.len(), same, shared));
                nodes.push(Node { label: (start, labels.len() as u32), children: (0, 0), value: NONE });
            }
            nodes[node].children = (begin, nodes.len() as u32);
        }
        Trie { nodes: nodes.into(), firsts: firsts.into(), labels: labels.into() }
    }

    /// Whether there are no prefixes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 1 && self.nodes[0].value == NONE
    }

    /// The number of the longest prefix of `key`.
    #[inline]
    pub fn longest(&self, key: &[u8]) -> Option<u32> {
        let (mut best, mut rest) = (NONE, key);
        let mut node = self.nodes.first()?;
        loop {
            if node.value != NONE {
                best = node.value;
            }
            let Some(&first) = rest.first() else { break };
            let first = if FOLD { first.to_ascii_lowercase() } else { first };
            let (begin, end) = (node.children.0 as usize, node.children.1 as usize);
            let Some(at) =
                self.firsts.get(begin..end).and_then(|firsts| firsts.iter().position(|&b| b == first))
            else {
                break;
            };
            let Some(child) = self.nodes.get(begin + at) else { break };
            let label = self.labels.get(child.label.0 as usize..child.label.1 as usize).unwrap_or_default();
            let Some((head, tail)) = rest.split_at_checked(label.len()) else { break };
            if !(if FOLD { head.eq_ignore_ascii_case(label) } else { head == label }) {
                break;
            }
            (node, rest) = (child, tail);
        }
        (best != NONE).then_some(best)
    }
}

/// Takes from `under` the keys that go on with the same byte as the first one.
fn branch(keys: &[(Vec<u8>, u32)], under: &mut Range<usize>, depth: usize) -> Range<usize> {
    let byte = keys[under.start].0[depth];
    let count = keys[under.clone()].partition_point(|(key, _)| key[depth] <= byte);
    let same = under.start..under.start + count;
    under.start = same.end;
    same
}

/// How many bytes two keys begin with alike.
fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_longest_prefix() {
        let trie =
            Trie::<false>::new([(&b"/"[..], 0), (b"/api", 1), (b"/api/v2", 2), (b"/img/", 3), (b"/apis", 4)]);
        for (key, want) in [
            ("/", Some(0)),
            ("/ap", Some(0)),
            ("/api", Some(1)),
            ("/apix", Some(1)),
            ("/apis", Some(4)),
            ("/api/v", Some(1)),
            ("/api/v2/x", Some(2)),
            ("/img", Some(0)),
            ("/img/a", Some(3)),
            ("", None),
            ("x", None),
            ("/API", Some(0)),
        ] {
            assert_eq!(trie.longest(key.as_bytes()), want, "{key}");
        }
        assert!(Trie::<true>::new([]).is_empty());
        assert_eq!(Trie::<true>::new([]).longest(b"x"), None);
        assert_eq!(Trie::<true>::new([(&b""[..], 7)]).longest(b"x"), Some(7));
        assert_eq!(Trie::<true>::new([(&b"X-Internal-"[..], 7)]).longest(b"x-iNTERNAL-"), Some(7));
    }

    proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn agrees_with_trying_them_all(
            prefixes in vec("[ab/]{0,5}", 0..20),
            keys in vec("[abAB/]{0,8}", 1..40),
        ) {
            let numbered: Vec<(&[u8], u32)> = prefixes.iter().zip(0..).map(|(p, n)| (p.as_bytes(), n)).collect();
            let (exact, folded) = (Trie::<false>::new(numbered.clone()), Trie::<true>::new(numbered.clone()));
            let naive = |key: &[u8]| {
                numbered
                    .iter()
                    .filter(|(p, _)| key.starts_with(p))
                    .max_by_key(|(p, n)| (p.len(), *n))
                    .map(|(_, n)| *n)
            };
            for key in &keys {
                prop_assert_eq!(exact.longest(key.as_bytes()), naive(key.as_bytes()));
                prop_assert_eq!(folded.longest(key.as_bytes()), naive(key.to_ascii_lowercase().as_bytes()));
            }
        }
    }
}
