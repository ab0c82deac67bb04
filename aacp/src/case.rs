//! Case mapping from a table of runs of letters, for the feature `compact`: 3 KB, where the standard library's tables take 24.
//!
//! The test at the end of this file derives the table from the standard library, and prints it if it differs from this one.

use core::iter::{Chain, Once, once};
use core::option;

use Way::{Both, Down, Up};

/// The direction in which a run of pairs maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Both,
    /// Upper to lower only: the lower letter maps to another upper letter, as `k` does for the Kelvin sign.
    Down,
    /// Lower to upper only: the upper letter maps to another lower letter, as `S` does for `ſ`.
    Up,
}

/// Upper letters `first` to `last`, every `step`th, and the distance from each to its lower letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run(u32, u32, i32, u8, Way);

impl Run {
    const fn holds(&self, upper: u32) -> bool {
        let Self(first, last, _, step, _) = *self;
        first <= upper && upper <= last && (upper - first).is_multiple_of(step as u32)
    }
}

/// A character in lower case, as [`char::to_lowercase`] gives it.
pub(crate) fn lower(c: char) -> Chain<Once<char>, option::IntoIter<char>> {
    // The only letter that maps to two characters.
    if c == 'İ' {
        return once('i').chain(Some('\u{307}'));
    }
    if c.is_ascii() {
        return once(c.to_ascii_lowercase()).chain(None);
    }
    let run = RUNS.iter().find(|run| run.4 != Up && run.holds(c.into()));
    once(run.map_or(c, |run| moved(c, run.2))).chain(None)
}

/// Adds a character in upper case to `text`, as [`char::to_uppercase`] gives it.
#[cfg(feature = "alloc")]
pub(crate) fn push_upper(c: char, text: &mut alloc::string::String) {
    if c.is_ascii() {
        return text.push(c.to_ascii_uppercase());
    }
    if let Some((_, upper)) = SEVERAL.iter().find(|(lower, _)| *lower == c) {
        return text.push_str(upper);
    }
    let is_lower = |run: &&Run| {
        run.4 != Down && u32::from(c).checked_add_signed(-run.2).is_some_and(|upper| run.holds(upper))
    };
    text.push(RUNS.iter().find(is_lower).map_or(c, |run| moved(c, -run.2)));
}

fn moved(c: char, distance: i32) -> char {
    u32::from(c).checked_add_signed(distance).and_then(char::from_u32).unwrap_or(c)
}

#[rustfmt::skip]
const RUNS: &[Run] = &[
    Run(0x0049, 0x0049, 232, 1, Up), Run(0x0053, 0x0053, 300, 1, Up), Run(0x00c0, 0x00d6, 32, 1, Both),
    Run(0x00d8, 0x00de, 32, 1, Both), Run(0x0100, 0x012e, 1, 2, Both), Run(0x0132, 0x0136, 1, 2, Both),
    Run(0x0139, 0x0147, 1, 2, Both), Run(0x014a, 0x0176, 1, 2, Both), Run(0x0178, 0x0178, -121, 1, Both),
    Run(0x0179, 0x017d, 1, 2, Both), Run(0x0181, 0x0181, 210, 1, Both), Run(0x0182, 0x0184, 1, 2, Both),
    Run(0x0186, 0x0186, 206, 1, Both), Run(0x0187, 0x0187, 1, 1, Both), Run(0x0189, 0x018a, 205, 1, Both),
    Run(0x018b, 0x018b, 1, 1, Both), Run(0x018e, 0x018e, 79, 1, Both), Run(0x018f, 0x018f, 202, 1, Both),
    Run(0x0190, 0x0190, 203, 1, Both), Run(0x0191, 0x0191, 1, 1, Both), Run(0x0193, 0x0193, 205, 1, Both),
    Run(0x0194, 0x0194, 207, 1, Both), Run(0x0196, 0x0196, 211, 1, Both), Run(0x0197, 0x0197, 209, 1, Both),
    Run(0x0198, 0x0198, 1, 1, Both), Run(0x019c, 0x019c, 211, 1, Both), Run(0x019d, 0x019d, 213, 1, Both),
    Run(0x019f, 0x019f, 214, 1, Both), Run(0x01a0, 0x01a4, 1, 2, Both), Run(0x01a6, 0x01a6, 218, 1, Both),
    Run(0x01a7, 0x01a7, 1, 1, Both), Run(0x01a9, 0x01a9, 218, 1, Both), Run(0x01ac, 0x01ac, 1, 1, Both),
    Run(0x01ae, 0x01ae, 218, 1, Both), Run(0x01af, 0x01af, 1, 1, Both), Run(0x01b1, 0x01b2, 217, 1, Both),
    Run(0x01b3, 0x01b5, 1, 2, Both), Run(0x01b7, 0x01b7, 219, 1, Both), Run(0x01b8, 0x01b8, 1, 1, Both),
    Run(0x01bc, 0x01bc, 1, 1, Both), Run(0x01c4, 0x01c4, 1, 1, Up), Run(0x01c4, 0x01c4, 2, 1, Both),
    Run(0x01c5, 0x01c5, 1, 1, Down), Run(0x01c7, 0x01c7, 1, 1, Up), Run(0x01c7, 0x01c7, 2, 1, Both),
    Run(0x01c8, 0x01c8, 1, 1, Down), Run(0x01ca, 0x01ca, 1, 1, Up), Run(0x01ca, 0x01ca, 2, 1, Both),
    Run(0x01cb, 0x01cb, 1, 1, Down), Run(0x01cd, 0x01db, 1, 2, Both), Run(0x01de, 0x01ee, 1, 2, Both),
    Run(0x01f1, 0x01f1, 1, 1, Up), Run(0x01f1, 0x01f1, 2, 1, Both), Run(0x01f2, 0x01f2, 1, 1, Down),
    Run(0x01f4, 0x01f4, 1, 1, Both), Run(0x01f6, 0x01f6, -97, 1, Both), Run(0x01f7, 0x01f7, -56, 1, Both),
    Run(0x01f8, 0x021e, 1, 2, Both), Run(0x0220, 0x0220, -130, 1, Both), Run(0x0222, 0x0232, 1, 2, Both),
    Run(0x023a, 0x023a, 10795, 1, Both), Run(0x023b, 0x023b, 1, 1, Both), Run(0x023d, 0x023d, -163, 1, Both),
    Run(0x023e, 0x023e, 10792, 1, Both), Run(0x0241, 0x0241, 1, 1, Both), Run(0x0243, 0x0243, -195, 1, Both),
    Run(0x0244, 0x0244, 69, 1, Both), Run(0x0245, 0x0245, 71, 1, Both), Run(0x0246, 0x024e, 1, 2, Both),
    Run(0x0370, 0x0372, 1, 2, Both), Run(0x0376, 0x0376, 1, 1, Both), Run(0x037f, 0x037f, 116, 1, Both),
    Run(0x0386, 0x0386, 38, 1, Both), Run(0x0388, 0x038a, 37, 1, Both), Run(0x038c, 0x038c, 64, 1, Both),
    Run(0x038e, 0x038f, 63, 1, Both), Run(0x0391, 0x0392, 32, 1, Both), Run(0x0392, 0x0392, 62, 1, Up),
    Run(0x0393, 0x0395, 32, 1, Both), Run(0x0395, 0x0395, 96, 1, Up), Run(0x0396, 0x0398, 32, 1, Both),
    Run(0x0398, 0x0398, 57, 1, Up), Run(0x0399, 0x0399, -84, 1, Up), Run(0x0399, 0x0399, 32, 1, Both),
    Run(0x0399, 0x0399, 7205, 1, Up), Run(0x039a, 0x039a, 32, 1, Both), Run(0x039a, 0x039a, 86, 1, Up),
    Run(0x039b, 0x039b, 32, 1, Both), Run(0x039c, 0x039c, -743, 1, Up), Run(0x039c, 0x03a0, 32, 1, Both),
    Run(0x03a0, 0x03a0, 54, 1, Up), Run(0x03a1, 0x03a1, 32, 1, Both), Run(0x03a1, 0x03a1, 80, 1, Up),
    Run(0x03a3, 0x03a3, 31, 1, Up), Run(0x03a3, 0x03a6, 32, 1, Both), Run(0x03a6, 0x03a6, 47, 1, Up),
    Run(0x03a7, 0x03ab, 32, 1, Both), Run(0x03cf, 0x03cf, 8, 1, Both), Run(0x03d8, 0x03ee, 1, 2, Both),
    Run(0x03f4, 0x03f4, -60, 1, Down), Run(0x03f7, 0x03f7, 1, 1, Both), Run(0x03f9, 0x03f9, -7, 1, Both),
    Run(0x03fa, 0x03fa, 1, 1, Both), Run(0x03fd, 0x03ff, -130, 1, Both), Run(0x0400, 0x040f, 80, 1, Both),
    Run(0x0410, 0x0412, 32, 1, Both), Run(0x0412, 0x0412, 6254, 1, Up), Run(0x0413, 0x0414, 32, 1, Both),
    Run(0x0414, 0x0414, 6253, 1, Up), Run(0x0415, 0x041e, 32, 1, Both), Run(0x041e, 0x041e, 6244, 1, Up),
    Run(0x041f, 0x0421, 32, 1, Both), Run(0x0421, 0x0421, 6242, 1, Up), Run(0x0422, 0x0422, 32, 1, Both),
    Run(0x0422, 0x0422, 6242, 1, Up), Run(0x0422, 0x0422, 6243, 1, Up), Run(0x0423, 0x042a, 32, 1, Both),
    Run(0x042a, 0x042a, 6236, 1, Up), Run(0x042b, 0x042f, 32, 1, Both), Run(0x0460, 0x0462, 1, 2, Both),
    Run(0x0462, 0x0462, 6181, 1, Up), Run(0x0464, 0x0480, 1, 2, Both), Run(0x048a, 0x04be, 1, 2, Both),
    Run(0x04c0, 0x04c0, 15, 1, Both), Run(0x04c1, 0x04cd, 1, 2, Both), Run(0x04d0, 0x052e, 1, 2, Both),
    Run(0x0531, 0x0556, 48, 1, Both), Run(0x10a0, 0x10c5, 7264, 1, Both), Run(0x10c7, 0x10c7, 7264, 1, Both),
    Run(0x10cd, 0x10cd, 7264, 1, Both), Run(0x13a0, 0x13ef, 38864, 1, Both), Run(0x13f0, 0x13f5, 8, 1, Both),
    Run(0x1c89, 0x1c89, 1, 1, Both), Run(0x1c90, 0x1cba, -3008, 1, Both), Run(0x1cbd, 0x1cbf, -3008, 1, Both),
    Run(0x1e00, 0x1e60, 1, 2, Both), Run(0x1e60, 0x1e60, 59, 1, Up), Run(0x1e62, 0x1e94, 1, 2, Both),
    Run(0x1e9e, 0x1e9e, -7615, 1, Down), Run(0x1ea0, 0x1efe, 1, 2, Both), Run(0x1f08, 0x1f0f, -8, 1, Both),
    Run(0x1f18, 0x1f1d, -8, 1, Both), Run(0x1f28, 0x1f2f, -8, 1, Both), Run(0x1f38, 0x1f3f, -8, 1, Both),
    Run(0x1f48, 0x1f4d, -8, 1, Both), Run(0x1f59, 0x1f5f, -8, 2, Both), Run(0x1f68, 0x1f6f, -8, 1, Both),
    Run(0x1f88, 0x1f8f, -8, 1, Down), Run(0x1f98, 0x1f9f, -8, 1, Down), Run(0x1fa8, 0x1faf, -8, 1, Down),
    Run(0x1fb8, 0x1fb9, -8, 1, Both), Run(0x1fba, 0x1fbb, -74, 1, Both), Run(0x1fbc, 0x1fbc, -9, 1, Down),
    Run(0x1fc8, 0x1fcb, -86, 1, Both), Run(0x1fcc, 0x1fcc, -9, 1, Down), Run(0x1fd8, 0x1fd9, -8, 1, Both),
    Run(0x1fda, 0x1fdb, -100, 1, Both), Run(0x1fe8, 0x1fe9, -8, 1, Both), Run(0x1fea, 0x1feb, -112, 1, Both),
    Run(0x1fec, 0x1fec, -7, 1, Both), Run(0x1ff8, 0x1ff9, -128, 1, Both), Run(0x1ffa, 0x1ffb, -126, 1, Both),
    Run(0x1ffc, 0x1ffc, -9, 1, Down), Run(0x2126, 0x2126, -7517, 1, Down),
    Run(0x212a, 0x212a, -8383, 1, Down), Run(0x212b, 0x212b, -8262, 1, Down),
    Run(0x2132, 0x2132, 28, 1, Both), Run(0x2160, 0x216f, 16, 1, Both), Run(0x2183, 0x2183, 1, 1, Both),
    Run(0x24b6, 0x24cf, 26, 1, Both), Run(0x2c00, 0x2c2f, 48, 1, Both), Run(0x2c60, 0x2c60, 1, 1, Both),
    Run(0x2c62, 0x2c62, -10743, 1, Both), Run(0x2c63, 0x2c63, -3814, 1, Both),
    Run(0x2c64, 0x2c64, -10727, 1, Both), Run(0x2c67, 0x2c6b, 1, 2, Both),
    Run(0x2c6d, 0x2c6d, -10780, 1, Both), Run(0x2c6e, 0x2c6e, -10749, 1, Both),
    Run(0x2c6f, 0x2c6f, -10783, 1, Both), Run(0x2c70, 0x2c70, -10782, 1, Both),
    Run(0x2c72, 0x2c72, 1, 1, Both), Run(0x2c75, 0x2c75, 1, 1, Both), Run(0x2c7e, 0x2c7f, -10815, 1, Both),
    Run(0x2c80, 0x2ce2, 1, 2, Both), Run(0x2ceb, 0x2ced, 1, 2, Both), Run(0x2cf2, 0x2cf2, 1, 1, Both),
    Run(0xa640, 0xa648, 1, 2, Both), Run(0xa64a, 0xa64a, -35266, 1, Up), Run(0xa64a, 0xa66c, 1, 2, Both),
    Run(0xa680, 0xa69a, 1, 2, Both), Run(0xa722, 0xa72e, 1, 2, Both), Run(0xa732, 0xa76e, 1, 2, Both),
    Run(0xa779, 0xa77b, 1, 2, Both), Run(0xa77d, 0xa77d, -35332, 1, Both), Run(0xa77e, 0xa786, 1, 2, Both),
    Run(0xa78b, 0xa78b, 1, 1, Both), Run(0xa78d, 0xa78d, -42280, 1, Both), Run(0xa790, 0xa792, 1, 2, Both),
    Run(0xa796, 0xa7a8, 1, 2, Both), Run(0xa7aa, 0xa7aa, -42308, 1, Both),
    Run(0xa7ab, 0xa7ab, -42319, 1, Both), Run(0xa7ac, 0xa7ac, -42315, 1, Both),
    Run(0xa7ad, 0xa7ad, -42305, 1, Both), Run(0xa7ae, 0xa7ae, -42308, 1, Both),
    Run(0xa7b0, 0xa7b0, -42258, 1, Both), Run(0xa7b1, 0xa7b1, -42282, 1, Both),
    Run(0xa7b2, 0xa7b2, -42261, 1, Both), Run(0xa7b3, 0xa7b3, 928, 1, Both), Run(0xa7b4, 0xa7c2, 1, 2, Both),
    Run(0xa7c4, 0xa7c4, -48, 1, Both), Run(0xa7c5, 0xa7c5, -42307, 1, Both),
    Run(0xa7c6, 0xa7c6, -35384, 1, Both), Run(0xa7c7, 0xa7c9, 1, 2, Both),
    Run(0xa7cb, 0xa7cb, -42343, 1, Both), Run(0xa7cc, 0xa7da, 1, 2, Both),
    Run(0xa7dc, 0xa7dc, -42561, 1, Both), Run(0xa7f5, 0xa7f5, 1, 1, Both), Run(0xff21, 0xff3a, 32, 1, Both),
    Run(0x10400, 0x10427, 40, 1, Both), Run(0x104b0, 0x104d3, 40, 1, Both),
    Run(0x10570, 0x1057a, 39, 1, Both), Run(0x1057c, 0x1058a, 39, 1, Both),
    Run(0x1058c, 0x10592, 39, 1, Both), Run(0x10594, 0x10595, 39, 1, Both),
    Run(0x10c80, 0x10cb2, 64, 1, Both), Run(0x10d50, 0x10d65, 32, 1, Both),
    Run(0x118a0, 0x118bf, 32, 1, Both), Run(0x16e40, 0x16e5f, 32, 1, Both),
    Run(0x16ea0, 0x16eb8, 27, 1, Both), Run(0x1e900, 0x1e921, 34, 1, Both),
];

/// Letters that map to several upper-case characters.
#[cfg(feature = "alloc")]
#[rustfmt::skip]
const SEVERAL: &[(char, &str)] = &[
    ('ß', "\u{53}\u{53}"), ('ŉ', "\u{2bc}\u{4e}"), ('ǰ', "\u{4a}\u{30c}"), ('ΐ', "\u{399}\u{308}\u{301}"),
    ('ΰ', "\u{3a5}\u{308}\u{301}"), ('և', "\u{535}\u{552}"), ('ẖ', "\u{48}\u{331}"), ('ẗ', "\u{54}\u{308}"),
    ('ẘ', "\u{57}\u{30a}"), ('ẙ', "\u{59}\u{30a}"), ('ẚ', "\u{41}\u{2be}"), ('ὐ', "\u{3a5}\u{313}"),
    ('ὒ', "\u{3a5}\u{313}\u{300}"), ('ὔ', "\u{3a5}\u{313}\u{301}"), ('ὖ', "\u{3a5}\u{313}\u{342}"),
    ('ᾀ', "\u{1f08}\u{399}"), ('ᾁ', "\u{1f09}\u{399}"), ('ᾂ', "\u{1f0a}\u{399}"), ('ᾃ', "\u{1f0b}\u{399}"),
    ('ᾄ', "\u{1f0c}\u{399}"), ('ᾅ', "\u{1f0d}\u{399}"), ('ᾆ', "\u{1f0e}\u{399}"), ('ᾇ', "\u{1f0f}\u{399}"),
    ('ᾈ', "\u{1f08}\u{399}"), ('ᾉ', "\u{1f09}\u{399}"), ('ᾊ', "\u{1f0a}\u{399}"), ('ᾋ', "\u{1f0b}\u{399}"),
    ('ᾌ', "\u{1f0c}\u{399}"), ('ᾍ', "\u{1f0d}\u{399}"), ('ᾎ', "\u{1f0e}\u{399}"), ('ᾏ', "\u{1f0f}\u{399}"),
    ('ᾐ', "\u{1f28}\u{399}"), ('ᾑ', "\u{1f29}\u{399}"), ('ᾒ', "\u{1f2a}\u{399}"), ('ᾓ', "\u{1f2b}\u{399}"),
    ('ᾔ', "\u{1f2c}\u{399}"), ('ᾕ', "\u{1f2d}\u{399}"), ('ᾖ', "\u{1f2e}\u{399}"), ('ᾗ', "\u{1f2f}\u{399}"),
    ('ᾘ', "\u{1f28}\u{399}"), ('ᾙ', "\u{1f29}\u{399}"), ('ᾚ', "\u{1f2a}\u{399}"), ('ᾛ', "\u{1f2b}\u{399}"),
    ('ᾜ', "\u{1f2c}\u{399}"), ('ᾝ', "\u{1f2d}\u{399}"), ('ᾞ', "\u{1f2e}\u{399}"), ('ᾟ', "\u{1f2f}\u{399}"),
    ('ᾠ', "\u{1f68}\u{399}"), ('ᾡ', "\u{1f69}\u{399}"), ('ᾢ', "\u{1f6a}\u{399}"), ('ᾣ', "\u{1f6b}\u{399}"),
    ('ᾤ', "\u{1f6c}\u{399}"), ('ᾥ', "\u{1f6d}\u{399}"), ('ᾦ', "\u{1f6e}\u{399}"), ('ᾧ', "\u{1f6f}\u{399}"),
    ('ᾨ', "\u{1f68}\u{399}"), ('ᾩ', "\u{1f69}\u{399}"), ('ᾪ', "\u{1f6a}\u{399}"), ('ᾫ', "\u{1f6b}\u{399}"),
    ('ᾬ', "\u{1f6c}\u{399}"), ('ᾭ', "\u{1f6d}\u{399}"), ('ᾮ', "\u{1f6e}\u{399}"), ('ᾯ', "\u{1f6f}\u{399}"),
    ('ᾲ', "\u{1fba}\u{399}"), ('ᾳ', "\u{391}\u{399}"), ('ᾴ', "\u{386}\u{399}"), ('ᾶ', "\u{391}\u{342}"),
    ('ᾷ', "\u{391}\u{342}\u{399}"), ('ᾼ', "\u{391}\u{399}"), ('ῂ', "\u{1fca}\u{399}"),
    ('ῃ', "\u{397}\u{399}"), ('ῄ', "\u{389}\u{399}"), ('ῆ', "\u{397}\u{342}"), ('ῇ', "\u{397}\u{342}\u{399}"),
    ('ῌ', "\u{397}\u{399}"), ('ῒ', "\u{399}\u{308}\u{300}"), ('ΐ', "\u{399}\u{308}\u{301}"),
    ('ῖ', "\u{399}\u{342}"), ('ῗ', "\u{399}\u{308}\u{342}"), ('ῢ', "\u{3a5}\u{308}\u{300}"),
    ('ΰ', "\u{3a5}\u{308}\u{301}"), ('ῤ', "\u{3a1}\u{313}"), ('ῦ', "\u{3a5}\u{342}"),
    ('ῧ', "\u{3a5}\u{308}\u{342}"), ('ῲ', "\u{1ffa}\u{399}"), ('ῳ', "\u{3a9}\u{399}"),
    ('ῴ', "\u{38f}\u{399}"), ('ῶ', "\u{3a9}\u{342}"), ('ῷ', "\u{3a9}\u{342}\u{399}"), ('ῼ', "\u{3a9}\u{399}"),
    ('ﬀ', "\u{46}\u{46}"), ('ﬁ', "\u{46}\u{49}"), ('ﬂ', "\u{46}\u{4c}"), ('ﬃ', "\u{46}\u{46}\u{49}"),
    ('ﬄ', "\u{46}\u{46}\u{4c}"), ('ﬅ', "\u{53}\u{54}"), ('ﬆ', "\u{53}\u{54}"), ('ﬓ', "\u{544}\u{546}"),
    ('ﬔ', "\u{544}\u{535}"), ('ﬕ', "\u{544}\u{53b}"), ('ﬖ', "\u{54e}\u{546}"), ('ﬗ', "\u{544}\u{53d}"),
];

#[cfg(all(test, feature = "alloc"))]
mod tests {
    extern crate std;
    use super::*;
    use std::{collections::BTreeMap, fmt::Write, string::String, vec::Vec};

    /// The single character that an iterator gives, unless it is `c`.
    fn other(c: char, mut cased: impl Iterator<Item = char>) -> Option<char> {
        let first = cased.next().filter(|first| *first != c)?;
        cased.next().is_none().then_some(first)
    }

    fn runs() -> Vec<Run> {
        let mut pairs = BTreeMap::new();
        for c in ('\u{80}'..=char::MAX).filter(|c| !c.is_ascii()) {
            if let Some(lower) = other(c, c.to_lowercase()) {
                let way = if other(lower, lower.to_uppercase()) == Some(c) { Both } else { Down };
                pairs.insert((u32::from(c), u32::from(lower)), way);
            }
            if let Some(upper) = other(c, c.to_uppercase()) {
                pairs.entry((upper.into(), c.into())).or_insert(Up);
            }
        }
        let mut runs: Vec<Run> = Vec::new();
        for ((upper, lower), way) in pairs {
            let distance = lower as i32 - upper as i32;
            if let Some(Run(first, last, same, step, same_way)) = runs.last_mut() {
                let gap = upper - *last;
                let fits = if first == last { gap == 1 || gap == 2 } else { gap == u32::from(*step) };
                if *same == distance && *same_way == way && fits {
                    (*last, *step) = (upper, gap as u8);
                    continue;
                }
            }
            runs.push(Run(upper, upper, distance, 1, way));
        }
        runs
    }

    fn several() -> Vec<(char, String)> {
        let is_several = |c: &char| c.to_uppercase().count() > 1;
        ('\0'..=char::MAX).filter(is_several).map(|c| (c, c.to_uppercase().collect())).collect()
    }

    #[test]
    fn the_tables_are_what_the_standard_library_says() {
        let (runs, several) = (runs(), several());
        let is_same = several.iter().map(|(c, upper)| (*c, upper.as_str())).eq(SEVERAL.iter().copied());
        let mut tables = String::new();
        for Run(first, last, distance, step, way) in &runs {
            writeln!(tables, "    Run({first:#06x}, {last:#06x}, {distance}, {step}, {way:?}),").unwrap();
        }
        for (c, upper) in &several {
            writeln!(tables, "    ({:?}, \"{}\"),", c, upper.escape_unicode()).unwrap();
        }
        assert!(runs == RUNS && is_same, "the tables should be\n{tables}");
    }

    #[test]
    fn every_character_has_the_case_that_the_standard_library_gives_it() {
        for c in '\0'..=char::MAX {
            assert!(lower(c).eq(c.to_lowercase()), "{c:?}");
            let mut upper = String::new();
            push_upper(c, &mut upper);
            assert!(upper.chars().eq(c.to_uppercase()), "{c:?}");
        }
    }
}
