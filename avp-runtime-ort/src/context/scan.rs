//! Scanning a cache for NaN and infinities in one pass over memory.

use avp_core::KvDType;

/// The index of the first element of `plane` that is NaN or infinite.
pub(crate) fn first_not_finite(plane: &[u8], dtype: KvDType) -> Option<usize> {
    // All bits of the exponent set: no arithmetic, so a signalling NaN is found like any other.
    match dtype {
        KvDType::Float32 => {
            const EXPONENT: u32 = 0x7f80_0000;
            find(plane, |bytes| u32::from_le_bytes(bytes) & EXPONENT == EXPONENT)
        }
        KvDType::Float16 => {
            const EXPONENT: u16 = 0x7c00;
            find(plane, |bytes| u16::from_le_bytes(bytes) & EXPONENT == EXPONENT)
        }
        KvDType::BFloat16 => {
            const EXPONENT: u16 = 0x7f80;
            find(plane, |bytes| u16::from_le_bytes(bytes) & EXPONENT == EXPONENT)
        }
    }
}

/// Elements scanned together: without a branch for each, the compiler vectorizes the comparison.
const BLOCK: usize = 1024;

fn find<const SIZE: usize>(plane: &[u8], is_odd: impl Fn([u8; SIZE]) -> bool) -> Option<usize> {
    let elements = plane.as_chunks::<SIZE>().0;
    elements.chunks(BLOCK).enumerate().find_map(|(index, block)| {
        if !block.iter().fold(false, |odd, &bytes| odd | is_odd(bytes)) {
            return None;
        }
        Some(index * BLOCK + block.iter().position(|&bytes| is_odd(bytes))?)
    })
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    #[test]
    fn every_number_that_is_not_finite_is_found_at_its_place() {
        for odd in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(0x7f80_0001)] {
            for place in [0, 1, 1023, 1024, 2499] {
                let mut values = vec![f32::MAX; 2500];
                values[place] = odd;
                let plane: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                assert_eq!(first_not_finite(&plane, KvDType::Float32), Some(place));
            }
        }
        let half = |odd: f16| [f16::MIN, odd].map(f16::to_le_bytes).concat();
        assert_eq!(first_not_finite(&half(f16::NAN), KvDType::Float16), Some(1));
        let brain = |odd: bf16| [bf16::MIN, odd].map(bf16::to_le_bytes).concat();
        assert_eq!(first_not_finite(&brain(bf16::NEG_INFINITY), KvDType::BFloat16), Some(1));
    }

    #[test]
    fn ordinary_numbers_pass() {
        let values = [0.0, -0.0, f32::MIN, f32::MAX, f32::MIN_POSITIVE, f32::from_bits(1)];
        let plane = values.map(f32::to_le_bytes).concat();
        assert_eq!(first_not_finite(&plane, KvDType::Float32), None);
        assert_eq!(
            first_not_finite(&[f16::MAX, f16::MIN].map(f16::to_le_bytes).concat(), KvDType::Float16),
            None
        );
        assert_eq!(first_not_finite(&[], KvDType::BFloat16), None);
    }
}
