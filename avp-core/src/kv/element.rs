//! KV-cache elements as numbers: typed slices, iterators, and conversion.

use half::{
    bf16, f16,
    slice::{HalfBitsSliceExt, HalfFloatSliceExt},
};
use zerocopy::FromBytes;

use super::{KvDType, copy};

/// An element type of a KV-cache: `f32`, [`half::f16`] or [`half::bf16`].
pub trait KvElement: FromBytes + zerocopy::Immutable + Copy + sealed::Sealed {
    /// Its number format.
    const DTYPE: KvDType;
}

impl KvElement for f32 {
    const DTYPE: KvDType = KvDType::Float32;
}

impl KvElement for f16 {
    const DTYPE: KvDType = KvDType::Float16;
}

impl KvElement for bf16 {
    const DTYPE: KvDType = KvDType::BFloat16;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

/// `tensor` as a slice of numbers, if it has the format of `T` and its alignment, on a little-endian machine.
pub(super) fn cast<T: KvElement>(dtype: KvDType, tensor: &[u8]) -> Option<&[T]> {
    if dtype != T::DTYPE || cfg!(target_endian = "big") {
        return None;
    }
    <[T]>::ref_from_bytes(tensor).ok()
}

/// The numbers of `tensor`, widened to `f32`, at any alignment.
pub(super) fn values(dtype: KvDType, tensor: &[u8]) -> impl ExactSizeIterator<Item = f32> {
    tensor.chunks_exact(dtype.size()).map(move |bytes| match (dtype, bytes) {
        (KvDType::Float32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
        (KvDType::Float16, &[a, b]) => f16::from_le_bytes([a, b]).to_f32(),
        (_, bytes) => bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
    })
}

/// Elements converted at a time: enough for SIMD, few enough for the stack and the L1 cache.
const CHUNK: usize = 1024;

/// Writes `source` to `target` in another format, rounding to nearest, ties to even.
///
/// `source` and `target` hold the same number of elements.
pub(super) fn convert(from: KvDType, source: &[u8], to: KvDType, target: &mut [u8]) {
    if from == to {
        return copy(source, target);
    }
    // Neither side need be aligned, so numbers pass through arrays that are.
    let mut numbers = [0.0; CHUNK];
    let chunks = source.chunks(CHUNK * from.size()).zip(target.chunks_mut(CHUNK * to.size()));
    for (source, target) in chunks {
        let numbers = &mut numbers[..source.len() / from.size()];
        widen(from, source, numbers);
        narrow(to, numbers, target);
    }
}

fn widen(from: KvDType, source: &[u8], numbers: &mut [f32]) {
    match from {
        KvDType::Float32 => {
            for (number, bytes) in numbers.iter_mut().zip(source.as_chunks().0) {
                *number = f32::from_le_bytes(*bytes);
            }
        }
        KvDType::Float16 => {
            let mut bits = [0_u16; CHUNK];
            let bits = &mut bits[..numbers.len()];
            for (bits, bytes) in bits.iter_mut().zip(source.as_chunks().0) {
                *bits = u16::from_le_bytes(*bytes);
            }
            bits.reinterpret_cast::<f16>().convert_to_f32_slice(numbers);
        }
        KvDType::BFloat16 => {
            for (number, &bytes) in numbers.iter_mut().zip(source.as_chunks().0) {
                *number = f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16);
            }
        }
    }
}

fn narrow(to: KvDType, numbers: &[f32], target: &mut [u8]) {
    match to {
        KvDType::Float32 => {
            for (bytes, number) in target.as_chunks_mut().0.iter_mut().zip(numbers) {
                *bytes = number.to_le_bytes();
            }
        }
        KvDType::Float16 => {
            let mut halves = [f16::ZERO; CHUNK];
            let halves = &mut halves[..numbers.len()];
            halves.convert_from_f32_slice(numbers);
            for (bytes, half) in target.as_chunks_mut().0.iter_mut().zip(halves) {
                *bytes = half.to_le_bytes();
            }
        }
        KvDType::BFloat16 => {
            for (bytes, number) in target.as_chunks_mut().0.iter_mut().zip(numbers) {
                *bytes = round_to_bf16(*number).to_le_bytes();
            }
        }
    }
}

/// The upper half of `number`, rounded to nearest, ties to even; a NaN becomes quiet.
///
/// The same bits as `half::bf16::from_f32`, without a branch, so that the compiler vectorizes it.
fn round_to_bf16(number: f32) -> u16 {
    let bits = number.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let quiet = (bits >> 16) | 0x40;
    (if number.is_nan() { quiet } else { rounded }) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert_one(from: KvDType, source: &[u8], to: KvDType) -> [u8; 4] {
        let mut target = [0; 4];
        convert(from, source, to, &mut target[..to.size()]);
        target
    }

    #[test]
    fn every_half_survives_the_way_through_f32() {
        // Miri is a thousand times slower.
        for bits in (0..=u16::MAX).step_by(if cfg!(miri) { 1009 } else { 1 }) {
            for dtype in [KvDType::Float16, KvDType::BFloat16] {
                let nan = match dtype {
                    KvDType::Float16 => f16::from_bits(bits).is_nan(),
                    _ => bf16::from_bits(bits).is_nan(),
                };
                let wide = convert_one(dtype, &bits.to_le_bytes(), KvDType::Float32);
                let back = convert_one(KvDType::Float32, &wide, dtype);
                if nan {
                    assert!(f32::from_le_bytes(wide).is_nan());
                } else {
                    assert_eq!(back[..2], bits.to_le_bytes(), "{bits:#06x} {dtype}");
                }
            }
        }
    }

    #[test]
    fn bf16_rounds_as_the_half_crate_does() {
        let mut bits = 1_u32;
        for _ in 0..if cfg!(miri) { 100 } else { 100_000 } {
            // A full period generator (Numerical Recipes), to pass through all kinds of numbers.
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let number = f32::from_bits(bits);
            assert_eq!(round_to_bf16(number), bf16::from_f32(number).to_bits(), "{bits:#010x}");
        }
        for number in [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, f32::NAN] {
            assert_eq!(round_to_bf16(number), bf16::from_f32(number).to_bits());
        }
    }

    #[test]
    fn conversion_takes_any_length_and_any_alignment() {
        let lens = [0, 1, 7, CHUNK + 1, CHUNK - 1, CHUNK, 3 * CHUNK + 5];
        for len in lens.into_iter().take(if cfg!(miri) { 4 } else { 7 }) {
            let mut source = [0_u8; 4 * (3 * CHUNK + 5) + 1];
            for (index, bytes) in source[1..].as_chunks_mut::<4>().0.iter_mut().enumerate() {
                *bytes = (index as f32).to_le_bytes();
            }
            let mut target = [0_u8; 2 * (3 * CHUNK + 5) + 1];
            let target = &mut target[1..][..2 * len];
            convert(KvDType::Float32, &source[1..][..4 * len], KvDType::Float16, target);
            let expected = (0..len).map(|index| f16::from_f32(index as f32).to_f32());
            assert!(values(KvDType::Float16, target).eq(expected), "{len}");
        }
    }

    #[test]
    fn typed_slices_need_the_right_type_and_alignment() {
        #[repr(align(4))]
        struct Aligned([u8; 12]);
        let bytes = Aligned([0; 12]);
        assert_eq!(cast::<f32>(KvDType::Float32, &bytes.0[..8]), Some(&[0.0, 0.0][..]));
        assert_eq!(cast::<f32>(KvDType::Float32, &bytes.0[1..9]), None);
        assert_eq!(cast::<f16>(KvDType::Float32, &bytes.0[..8]), None);
        assert_eq!(cast::<bf16>(KvDType::BFloat16, &bytes.0[2..4]), Some(&[bf16::ZERO][..]));
    }
}
