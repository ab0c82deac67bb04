//! The names that exporters give to the inputs and outputs of a decoder, and the value of each input in a run.
//!
//! Optimum, the onnxruntime-genai model builder and onnx-community agree on these. An export with another input needs a new
//! variant of [`RunInput`] with its value, and nothing elsewhere.

use std::ops::Range;

use ort::value::Tensor;

/// Token ids, `[batch, length]`.
pub(crate) const INPUT_IDS: &str = "input_ids";
/// `[batch, length, vocab_size]`.
pub(crate) const LOGITS: &str = "logits";

/// The two halves of a layer's cache.
pub(crate) const PARTS: [&str; 2] = ["key", "value"];

/// The names of the cache inputs and outputs that are supported, for messages.
pub(crate) const PAST_NAMES: &str = "past_key_values.N.key and .value";

/// The cache input of a layer; `part` is 0 for keys and 1 for values.
pub(crate) fn past(layer: usize, part: usize) -> String {
    format!("past_key_values.{layer}.{}", PARTS[part])
}

/// The cache output of a layer.
pub(crate) fn present(layer: usize, part: usize) -> String {
    format!("present.{layer}.{}", PARTS[part])
}

/// The meaning of an input, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputName {
    InputIds,
    Run(RunInput),
    Past {
        layer: usize,
        part: usize,
    },
    /// State of another kind than a KV-cache.
    OtherCache,
    Unknown,
}

impl InputName {
    pub(crate) fn parse(name: &str) -> Self {
        if name == INPUT_IDS {
            return Self::InputIds;
        }
        if let Some(input) = RunInput::ALL.into_iter().find(|input| input.name() == name) {
            return Self::Run(input);
        }
        match past_slot(name) {
            Some((layer, part)) => Self::Past { layer, part },
            None if name.starts_with("past_") || name.starts_with("cache_") => Self::OtherCache,
            None => Self::Unknown,
        }
    }
}

/// `past_key_values.3.value` is layer 3, part 1.
fn past_slot(name: &str) -> Option<(usize, usize)> {
    let (layer, part) = name.strip_prefix("past_key_values.")?.split_once('.')?;
    let part = PARTS.iter().position(|&known| known == part)?;
    Some((layer.parse().ok()?, part))
}

/// An int64 input whose value follows from the positions of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunInput {
    AttentionMask,
    PositionIds,
    NumLogitsToKeep,
}

impl RunInput {
    pub(crate) const ALL: [Self; 3] = [Self::AttentionMask, Self::PositionIds, Self::NumLogitsToKeep];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AttentionMask => "attention_mask",
            Self::PositionIds => "position_ids",
            Self::NumLogitsToKeep => "num_logits_to_keep",
        }
    }

    /// Whether every run has the same value.
    pub(crate) fn is_constant(self) -> bool {
        matches!(self, Self::NumLogitsToKeep)
    }

    /// The value for a run over the positions `range`, behind a cache of those before.
    pub(crate) fn value(self, range: &Range<usize>) -> ort::Result<Tensor<i64>> {
        match self {
            Self::AttentionMask => row(vec![1; range.end]),
            Self::PositionIds => row((range.start as i64..range.end as i64).collect()),
            Self::NumLogitsToKeep => Tensor::from_array((Vec::<i64>::new(), vec![1])),
        }
    }
}

/// A tensor `[1, length]`.
pub(crate) fn row(values: Vec<i64>) -> ort::Result<Tensor<i64>> {
    Tensor::from_array(([1, values.len()], values))
}

/// The inputs and outputs that preparing adds to a graph.
pub(crate) mod prepared {
    pub(crate) const LATENT_MASK: &str = "latent_mask";
    pub(crate) const LATENT_EMBEDS: &str = "latent_embeds";
    pub(crate) const LATENT_STEP: &str = "latent_step";
    pub(crate) const LATENT_TEMPERATURE: &str = "latent_temperature";
    pub(crate) const LATENT_ROWS: &str = "latent_rows";
    pub(crate) const LATENT_HIDDEN: &str = "latent_hidden";
    pub(crate) const LATENT_RESCALE: &str = "latent_rescale";
    pub(crate) const LAST_HIDDEN: &str = "avp.last_hidden";
    pub(crate) const NEXT_LATENT: &str = "next_latent";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_as_they_are_written() {
        for (layer, part) in [(0, 0), (3, 1), (27, 0)] {
            assert_eq!(InputName::parse(&past(layer, part)), InputName::Past { layer, part });
        }
        for input in RunInput::ALL {
            assert_eq!(InputName::parse(input.name()), InputName::Run(input));
        }
        assert_eq!(InputName::parse(INPUT_IDS), InputName::InputIds);
        assert_eq!(InputName::parse("past_key_values.0.encoder.key"), InputName::OtherCache);
        assert_eq!(InputName::parse("pixels"), InputName::Unknown);
    }
}
