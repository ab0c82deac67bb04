//! Caches in borrowed host memory: a received frame, a mapped file.
//!
//! A tensor of ONNX Runtime owns memory from an allocator. The allocator in this file returns a slice of [`Bytes`], keeps the
//! bytes for the lifetime of the tensor, and releases them when ONNX Runtime frees the tensor. Nothing is copied, and the
//! memory is valid for as long as ONNX Runtime keeps the tensor.
//!
//! The memory is shared and must only be read. Runs only read their inputs.

use std::{
    cell::Cell,
    collections::BTreeMap,
    ffi::{CStr, c_void},
    fmt::Debug,
    ptr::{NonNull, null, null_mut},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use avp_core::KvDType;
use bytes::Bytes;
use ort::{
    AsPointer,
    memory::{Allocator, MemoryInfo},
    sys,
    value::{DynTensor, PrimitiveTensorElementType, TensorElementType, TensorRefMut},
};

use super::{KvCache, element_type};
use crate::prepare::CacheLayout;

impl KvCache {
    /// A cache whose tensors are `planes`, the bytes of `[K0][V0][K1][V1]…`, each `[num_kv_heads, seq_len, head_dim]`,
    /// little-endian. Used in place if they are aligned for their type, else copied once.
    ///
    /// # Errors
    /// When the length does not match the shape, or ONNX Runtime refuses.
    pub(crate) fn lend(layout: CacheLayout, seq_len: usize, planes: Bytes) -> ort::Result<Self> {
        let plane_len = layout.plane_len(seq_len).filter(|&len| {
            len > 0
                && len.checked_mul(2).and_then(|len| len.checked_mul(layout.num_layers)) == Some(planes.len())
        });
        let Some(plane_len) = plane_len else {
            return Err(ort::Error::new("the length of the cache does not match its shape"));
        };
        let planes = aligned(planes, layout.dtype);
        let plane = |index: usize| {
            lend(
                planes.slice(index * plane_len..(index + 1) * plane_len),
                layout.dtype,
                layout.shape(seq_len),
            )
        };
        let layers = (0..layout.num_layers)
            .map(|layer| Ok([plane(2 * layer)?, plane(2 * layer + 1)?]))
            .collect::<ort::Result<_>>()?;
        Ok(Self { layers, layout, seq_len })
    }

    /// Whether the cache is in host memory.
    pub(crate) fn is_on_host(&self) -> bool {
        self.layers.iter().flatten().all(|tensor| tensor.memory_info().is_cpu_accessible())
    }

    /// The cache in host memory: itself, or a copy of a cache on a device.
    ///
    /// # Errors
    /// When there is not enough memory for the copy, or the device cannot be read.
    pub(crate) fn on_host(self: &Arc<Self>) -> ort::Result<Arc<Self>> {
        if self.is_on_host() {
            return Ok(self.clone());
        }
        let plane_len = self.layout.plane_len(self.seq_len).unwrap_or_default();
        let mut host = HostBuffer::new(plane_len * 2 * self.layers.len());
        self.copy_to(host.bytes_mut())?;
        Self::lend(self.layout, self.seq_len, host.into_bytes()).map(Arc::new)
    }

    /// A copy of the first `seq_len` rows, in host memory.
    ///
    /// # Errors
    /// When the cache has fewer rows, there is not enough memory, or the device cannot be read.
    pub(crate) fn first_on_host(self: &Arc<Self>, seq_len: usize) -> ort::Result<Self> {
        let row = self.layout.head_dim * self.layout.dtype.size();
        let whole = self.on_host()?;
        let planes: Vec<&[u8]> = whole.planes().collect::<ort::Result<_>>()?;
        let mut first = HostBuffer::new(planes.len() * self.layout.num_kv_heads * seq_len * row);
        let heads = planes.iter().flat_map(|plane| plane.chunks_exact((self.seq_len * row).max(1)));
        let places = first.bytes_mut().chunks_exact_mut((seq_len * row).max(1));
        for (place, head) in places.zip(heads) {
            let rows = head.get(..place.len()).ok_or_else(|| ort::Error::new("the cache has fewer rows"))?;
            place.copy_from_slice(rows);
        }
        Self::lend(self.layout, seq_len, first.into_bytes())
    }

    /// Copies `[K0][V0][K1][V1]…` from host or device memory to `target`, which has the same length.
    ///
    /// # Errors
    /// When the device cannot be read.
    pub(crate) fn copy_to(&self, mut target: &mut [u8]) -> ort::Result<()> {
        for tensor in self.layers.iter().flatten() {
            let plane_len = self.layout.plane_len(self.seq_len).unwrap_or_default();
            let (plane, after) = target.split_at_mut(plane_len);
            copy_plane(tensor, plane)?;
            target = after;
        }
        Ok(())
    }
}

impl CacheLayout {
    /// Bytes of one key or value tensor of `seq_len` tokens; `None` on overflow.
    pub(crate) fn plane_len(&self, seq_len: usize) -> Option<usize> {
        let row = self.head_dim.checked_mul(self.dtype.size())?;
        self.num_kv_heads.checked_mul(seq_len)?.checked_mul(row)
    }
}

/// Zeroed host memory, aligned to 16 bytes, a multiple of every number format's size.
pub(crate) struct HostBuffer {
    blocks: Vec<u128>,
    len: usize,
}

impl HostBuffer {
    /// Bytes.
    pub(crate) const ALIGNMENT: usize = size_of::<u128>();

    pub(crate) fn new(len: usize) -> Self {
        // New memory from the system is zero, so large buffers are not written here.
        Self { blocks: vec![0; len.div_ceil(Self::ALIGNMENT)], len }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.blocks)[..self.len]
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for HostBuffer {
    fn as_ref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.blocks)[..self.len]
    }
}

/// Copies a tensor to `target`, which has the same length, from its device or from host memory.
///
/// # Errors
/// When the device cannot be read.
fn copy_plane(tensor: &DynTensor, target: &mut [u8]) -> ort::Result<()> {
    match tensor.data_type() {
        TensorElementType::Float32 => copy_plane_of::<f32>(tensor, target),
        TensorElementType::Float16 => copy_plane_of::<half::f16>(tensor, target),
        // `ort` copies by a graph, and ONNX Runtime has none for bfloat16 on the host. A copy as float16 keeps the bits.
        //
        // SAFETY: the tensor is borrowed for longer than the other one lives, and bfloat16 has two bytes.
        TensorElementType::Bfloat16 => copy_plane_of::<half::f16>(&unsafe { as_float16(tensor)? }, target),
        other => Err(ort::Error::new(format!("a cache has no elements of {other}"))),
    }
}

fn copy_plane_of<T: PrimitiveTensorElementType + Debug>(
    tensor: &DynTensor,
    target: &mut [u8],
) -> ort::Result<()> {
    let shape = tensor.shape().clone();
    if shape.num_elements() * size_of::<T>() != target.len() {
        return Err(ort::Error::new("the tensor's size differs from that of its target"));
    }
    let place = target.as_mut_ptr().cast();
    // SAFETY: the place is host memory, as it is described, has room for the shape, as was just checked, and is borrowed for
    // longer than the tensor over it lives. ONNX Runtime copies bytes to it, for which it needs no alignment.
    let target = unsafe { TensorRefMut::<T>::from_raw(MemoryInfo::default(), place, shape)? };
    tensor.view().downcast()?.copy_into(target)
}

/// A second tensor over the memory of `tensor`, whose elements have two bytes, as float16.
///
/// It is not a view of `ort`: a binding copies those first, and `ort`'s copy then deadlocks.
///
/// # Safety
/// `tensor` must outlive the result, and its elements must have two bytes.
unsafe fn as_float16(tensor: &DynTensor) -> ort::Result<DynTensor> {
    let shape = tensor.shape();
    let bytes = shape.num_elements() * size_of::<half::f16>();
    let mut value = null_mut();
    // SAFETY: the memory is where the tensor says, and has as many bytes, two for each element; `shape` has as many sizes as
    // are announced, and `value` points to room for the result. The call takes what it needs before it returns.
    let status = unsafe {
        (ort::api().CreateTensorWithDataAsOrtValue)(
            tensor.memory_info().ptr(),
            tensor.data_ptr().cast_mut(),
            bytes,
            shape.as_ptr(),
            shape.len(),
            element_type(KvDType::Float16).into(),
            &mut value,
        )
    };
    // SAFETY: both come from the call above.
    unsafe { made(status, value) }
}

/// The tensor created by a call of ONNX Runtime's C API, or its error.
///
/// # Safety
/// `status` and `value` must be the results of one such call, and must have no other owner.
unsafe fn made(status: sys::OrtStatusPtr, value: *mut sys::OrtValue) -> ort::Result<DynTensor> {
    if !status.0.is_null() {
        let api = ort::api();
        // SAFETY: a status that is not null has a message, which ends with a zero byte and lives until the status is
        // released, here and once.
        let message = unsafe {
            let message = CStr::from_ptr((api.GetErrorMessage)(status.0)).to_string_lossy().into_owned();
            (api.ReleaseStatus)(status.0);
            message
        };
        return Err(ort::Error::new(message));
    }
    let value = NonNull::new(value).ok_or_else(|| ort::Error::new("ONNX Runtime returned no tensor"))?;
    // SAFETY: the value is a tensor that nobody else owns. The allocator that is named here is only kept alive by it; what
    // frees the memory, if anything, is what the value was made with.
    Ok(unsafe { DynTensor::from_ptr(value, Some(&Allocator::default())) })
}

/// `planes` if they are aligned to the element size, else an aligned copy.
fn aligned(planes: Bytes, dtype: KvDType) -> Bytes {
    if planes.as_ptr().addr().is_multiple_of(dtype.size()) {
        return planes;
    }
    let mut copy = HostBuffer::new(planes.len());
    copy.bytes_mut().copy_from_slice(&planes);
    copy.into_bytes()
}

/// A tensor over `plane`, which is kept for the lifetime of the tensor.
fn lend(plane: Bytes, dtype: KvDType, shape: [i64; 4]) -> ort::Result<DynTensor> {
    let start = plane.as_ptr();
    MEMORY_INFO.get_or_init(MemoryInfo::default);
    let mut value = null_mut();
    OFFER.set(Some(plane));
    // SAFETY: `LENDER` is a static with all its functions, `shape` has the four sizes that are announced, and `value`
    // points to room for the result. The call takes what it needs before it returns.
    let status = unsafe {
        (ort::api().CreateTensorAsOrtValue)(
            (&raw const LENDER).cast_mut(),
            shape.as_ptr(),
            shape.len(),
            element_type(dtype).into(),
            &mut value,
        )
    };
    let refused = OFFER.take();
    // SAFETY: both come from the call above.
    let tensor = unsafe { made(status, value)? };
    if refused.is_some() || tensor.data_ptr().cast() != start {
        return Err(ort::Error::new("the tensor did not use the given memory"));
    }
    Ok(tensor)
}

/// The allocator that returns the memory in [`OFFER`].
static LENDER: sys::OrtAllocator = sys::OrtAllocator {
    Alloc: Some(take_offer),
    Free: Some(give_back),
    Info: Some(memory_info),
    // SAFETY: the other fields are the version of this structure and functions that may be absent.
    ..unsafe { sys::OrtAllocator::default() }
};

/// The description of ordinary host memory, created before the first tensor.
static MEMORY_INFO: OnceLock<MemoryInfo<'static>> = OnceLock::new();

thread_local! {
    /// The memory of the next tensor of this thread, set only during the call that creates it.
    static OFFER: Cell<Option<Bytes>> = const { Cell::new(None) };
}

/// The owners of memory in use, by address. The same bytes can be in use several times, as when one frame is read twice.
static LENT: Mutex<BTreeMap<usize, Vec<Bytes>>> = Mutex::new(BTreeMap::new());

fn lent() -> MutexGuard<'static, BTreeMap<usize, Vec<Bytes>>> {
    // No operation under the lock can panic half-done.
    LENT.lock().unwrap_or_else(PoisonError::into_inner)
}

unsafe extern "system" fn take_offer(_: *mut sys::OrtAllocator, size: usize) -> *mut c_void {
    let Some(plane) = OFFER.take() else { return null_mut() };
    if plane.len() != size {
        return null_mut();
    }
    let start = plane.as_ptr().cast_mut();
    lent().entry(start.addr()).or_default().push(plane);
    start.cast()
}

unsafe extern "system" fn give_back(_: *mut sys::OrtAllocator, start: *mut c_void) {
    let mut lent = lent();
    let Some(owners) = lent.get_mut(&start.addr()) else { return };
    let owner = owners.pop();
    if owners.is_empty() {
        lent.remove(&start.addr());
    }
    // Unmapping a file takes a while, and an owner may free other tensors: not under the lock.
    drop(lent);
    drop(owner);
}

unsafe extern "system" fn memory_info(_: *const sys::OrtAllocator) -> *const sys::OrtMemoryInfo {
    MEMORY_INFO.get().map_or(null(), AsPointer::ptr)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    use super::*;
    use crate::Runtime;

    const LAYOUT: CacheLayout =
        CacheLayout { num_layers: 2, num_kv_heads: 1, head_dim: 4, dtype: KvDType::Float32 };

    /// Memory that reports its release.
    struct Watched(HostBuffer, Arc<AtomicBool>);

    impl AsRef<[u8]> for Watched {
        fn as_ref(&self) -> &[u8] {
            self.0.as_ref()
        }
    }

    impl Drop for Watched {
        fn drop(&mut self) {
            self.1.store(true, SeqCst);
        }
    }

    fn watched(len: usize) -> (Bytes, Arc<AtomicBool>) {
        let gone = Arc::new(AtomicBool::new(false));
        let mut buffer = HostBuffer::new(len);
        buffer.bytes_mut().iter_mut().zip(0..).for_each(|(byte, value)| *byte = value);
        (Bytes::from_owner(Watched(buffer, gone.clone())), gone)
    }

    #[test]
    fn aligned_bytes_are_bound_where_they_lie_and_live_as_long_as_a_tensor_does() {
        let _runtime = Runtime::find().unwrap();
        let (bytes, gone) = watched(192);
        let (start, expected) = (bytes.as_ptr(), bytes.to_vec());
        let (first, second) =
            (KvCache::lend(LAYOUT, 3, bytes.clone()).unwrap(), KvCache::lend(LAYOUT, 3, bytes).unwrap());
        for cache in [&first, &second] {
            let planes: Vec<&[u8]> = cache.planes().map(Result::unwrap).collect();
            assert_eq!(planes[0].as_ptr(), start);
            assert_eq!(planes.concat(), expected);
        }
        drop(first);
        let [key, value] = { second }.layers.pop().unwrap();
        drop(key);
        assert!(!gone.load(SeqCst));
        assert_eq!(value.try_extract_tensor::<f32>().unwrap().1.len(), 12);
        drop(value);
        assert!(gone.load(SeqCst));
    }

    #[test]
    fn bytes_at_an_odd_place_are_copied_and_let_go() {
        let _runtime = Runtime::find().unwrap();
        let (bytes, gone) = watched(193);
        let cache = KvCache::lend(LAYOUT, 3, bytes.slice(1..)).unwrap();
        assert_eq!(cache.planes().map(Result::unwrap).collect::<Vec<_>>().concat(), bytes[1..]);
        drop(bytes);
        assert!(gone.load(SeqCst));
    }

    #[test]
    fn a_tensor_is_copied_out_by_the_runtime_as_it_is() {
        let _runtime = Runtime::find().unwrap();
        for dtype in [KvDType::Float32, KvDType::Float16, KvDType::BFloat16] {
            let layout = CacheLayout { dtype, ..LAYOUT };
            let (bytes, _gone) = watched(48 * dtype.size());
            let cache = Arc::new(KvCache::lend(layout, 3, bytes.clone()).unwrap());
            let mut copy = HostBuffer::new(bytes.len());
            cache.copy_to(copy.bytes_mut()).unwrap();
            assert_eq!(copy.as_ref(), bytes);
            assert!(Arc::ptr_eq(&cache.on_host().unwrap(), &cache));
        }
    }

    #[test]
    fn another_number_of_bytes_than_the_shape_has_is_refused() {
        let _runtime = Runtime::find().unwrap();
        for (seq_len, len) in [(3, 191), (3, 193), (0, 0), (usize::MAX, 192)] {
            assert!(KvCache::lend(LAYOUT, seq_len, Bytes::from(vec![0; len])).is_err(), "{seq_len} {len}");
        }
    }

    #[test]
    fn threads_lend_at_the_same_time() {
        let _runtime = Runtime::find().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let (bytes, gone) = watched(192);
                        drop(KvCache::lend(LAYOUT, 3, bytes).unwrap());
                        assert!(gone.load(SeqCst));
                    }
                });
            }
        });
    }
}
