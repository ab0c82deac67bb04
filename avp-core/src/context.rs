//! The fields of a context in `extra`: outside the wire format, but written and read by the Python packages.

use crate::Metadata;

/// The context fields of `extra`.
///
/// # Examples
///
/// ```
/// use avp_core::{ContextFields, Metadata};
///
/// let context = ContextFields { model_hash: "", model_family: "qwen2", num_steps: Some(8) };
/// let extra = context.to_extra();
/// let entries = extra.entries();
/// let metadata = Metadata { extra: (&entries).into(), ..Metadata::default() };
/// assert_eq!(metadata.context(), context);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContextFields<'a> {
    /// SHA-256 of the model's config, in hex. The Python package hashes the config as Transformers fills it in, not the
    /// text of `config.json`.
    pub model_hash: &'a str,
    /// Architecture, such as `"qwen2"`.
    pub model_family: &'a str,
    /// The number of latent steps in the context; `None` if `extra` has no such number.
    pub num_steps: Option<u32>,
}

impl<'a> ContextFields<'a> {
    pub(crate) const MODEL_HASH: &'static str = "model_hash";
    pub(crate) const MODEL_FAMILY: &'static str = "model_family";
    pub(crate) const NUM_STEPS: &'static str = "num_steps";

    /// The fields, by a lookup of their keys.
    pub(crate) fn from_lookup(lookup: impl Fn(&str) -> Option<&'a str>) -> Self {
        Self {
            model_hash: lookup(Self::MODEL_HASH).unwrap_or_default(),
            model_family: lookup(Self::MODEL_FAMILY).unwrap_or_default(),
            num_steps: lookup(Self::NUM_STEPS).and_then(|digits| digits.trim().parse().ok()),
        }
    }

    /// The fields as text for `extra`.
    #[must_use]
    pub fn to_extra(&self) -> ContextExtra<'a> {
        let mut digits = [0; MAX_DIGITS];
        let mut start = MAX_DIGITS;
        let mut rest = self.num_steps.unwrap_or(0);
        loop {
            start -= 1;
            digits[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        ContextExtra { model_hash: self.model_hash, model_family: self.model_family, digits, start }
    }
}

impl<'a> Metadata<'a> {
    /// The context fields of `extra`.
    #[must_use]
    pub fn context(&self) -> ContextFields<'a> {
        ContextFields::from_lookup(|key| self.extra.get(key))
    }
}

/// Digits of the largest `u32`.
const MAX_DIGITS: usize = 10;

/// [`ContextFields`] as text.
#[derive(Debug, Clone, Copy)]
pub struct ContextExtra<'a> {
    model_hash: &'a str,
    model_family: &'a str,
    digits: [u8; MAX_DIGITS],
    start: usize,
}

impl ContextExtra<'_> {
    /// The three entries, sorted by key, even if empty, as the Python packages write them.
    #[must_use]
    pub fn entries(&self) -> [(&str, &str); 3] {
        // ASCII digits are UTF-8.
        let num_steps = core::str::from_utf8(&self.digits[self.start..]).unwrap_or("0");
        [
            (ContextFields::MODEL_FAMILY, self.model_family),
            (ContextFields::MODEL_HASH, self.model_hash),
            (ContextFields::NUM_STEPS, num_steps),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_counts_are_written_in_decimal() {
        for (num_steps, text) in
            [(None, "0"), (Some(0), "0"), (Some(20), "20"), (Some(u32::MAX), "4294967295")]
        {
            let fields = ContextFields { num_steps, ..Default::default() };
            assert_eq!(fields.to_extra().entries()[2], ("num_steps", text));
        }
    }

    #[test]
    fn a_step_count_that_is_no_number_is_none() {
        for text in ["", "eight", "-1", "4294967296", "1.0"] {
            assert_eq!(ContextFields::from_lookup(|_| Some(text)).num_steps, None, "{text}");
        }
        assert_eq!(ContextFields::from_lookup(|_| None), ContextFields::default());
    }
}
