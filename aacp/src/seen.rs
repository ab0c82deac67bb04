//! The set of unknown keys in a packet, without allocation.

use crate::text::Folded;

/// Slots of the table. At most half of them are used, so that probes are short.
const SLOTS: usize = 512;

/// Maximum number of keys in the table: the number of fields that [`crate::Limits::DEFAULT`] allows.
pub(crate) const CAPACITY: usize = SLOTS / 2;

/// The unknown keys of the fields before the current one.
///
/// Known keys are bits of an integer. Unknown keys are in an open-addressed table of offsets into the packet's text, created
/// at the first unknown key. Beyond [`CAPACITY`] keys, which only a raised limit allows, further keys are in a tree (with
/// `alloc`), or are found by scanning the earlier fields (without).
pub(crate) struct SeenKeys<'a> {
    text: &'a str,
    /// Offset of a key, plus one; zero is a free slot.
    slots: Option<[u32; SLOTS]>,
    used: usize,
    #[cfg(feature = "alloc")]
    more: alloc::collections::BTreeSet<Folded<'a>>,
}

impl<'a> SeenKeys<'a> {
    /// An empty set of keys in `text`, which is shorter than 4 GiB.
    pub(crate) fn new(text: &'a str) -> Self {
        Self {
            text,
            slots: None,
            used: 0,
            #[cfg(feature = "alloc")]
            more: alloc::collections::BTreeSet::new(),
        }
    }

    /// Adds the key at byte `at` of the text; false if the set already has an equal key.
    ///
    /// `earlier` yields the keys of all earlier fields; it is used once the table is full.
    pub(crate) fn insert(&mut self, key: &'a str, at: usize, earlier: impl Iterator<Item = &'a str>) -> bool {
        let slots = self.slots.get_or_insert([0; SLOTS]);
        let mut slot = Folded(key).hash() as usize % SLOTS;
        while slots[slot] != 0 {
            if Folded(key_at(self.text, slots[slot] as usize - 1)) == Folded(key) {
                return false;
            }
            slot = (slot + 1) % SLOTS;
        }
        if self.used < CAPACITY {
            // An offset in a text under 4 GiB, plus one, fits.
            slots[slot] = u32::try_from(at + 1).unwrap_or(0);
            self.used += 1;
            return true;
        }
        self.insert_past_capacity(key, earlier)
    }

    #[cfg(feature = "alloc")]
    fn insert_past_capacity(&mut self, key: &'a str, _earlier: impl Iterator<Item = &'a str>) -> bool {
        self.more.insert(Folded(key))
    }

    #[cfg(not(feature = "alloc"))]
    fn insert_past_capacity(&mut self, key: &'a str, mut earlier: impl Iterator<Item = &'a str>) -> bool {
        !earlier.any(|other| Folded(other) == Folded(key))
    }
}

/// The key that starts at byte `at`: the text before the colon, without blanks at its end.
fn key_at(text: &str, at: usize) -> &str {
    let rest = &text[at..];
    let end = memchr::memchr(b':', rest.as_bytes()).unwrap_or(rest.len());
    crate::text::trim(&rest[..end]).1
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::{format, string::String, vec::Vec};

    #[test]
    fn a_key_is_new_once_whatever_its_case_and_however_many_there_are() {
        let count = CAPACITY + 40;
        let text: String =
            (0..count).map(|n| format!("Key{n} :v|")).chain(["KEY7:v|KEY290:v|".into()]).collect();
        let keys: Vec<(usize, &str)> = text
            .split_terminator('|')
            .map(|field| {
                (field.as_ptr() as usize - text.as_ptr() as usize, field.split(':').next().unwrap().trim())
            })
            .collect();
        let mut seen = SeenKeys::new(&text);
        let fresh: Vec<bool> = (0..keys.len())
            .map(|n| seen.insert(keys[n].1, keys[n].0, keys[..n].iter().map(|(_, key)| *key)))
            .collect();
        assert!(fresh[..count].iter().all(|new| *new));
        assert_eq!(fresh[count..], [false, false]);
    }

    #[test]
    fn an_empty_key_is_a_key() {
        let mut seen = SeenKeys::new(":a|:b");
        assert!(seen.insert("", 0, core::iter::empty()));
        assert!(!seen.insert("", 3, [""].into_iter()));
    }
}
