//! Contexts: looked at, written and read.

use avp_core::OwnedModelIdentity;
use avp_runtime_ort::Context;
use bytes::Bytes;
use napi::{
    Env,
    bindgen_prelude::{External, Object, Uint8Array},
};
use napi_derive::napi;
use serde::Serialize;

use super::{
    call::{parsed, promised, written},
    library,
    options::{Library, ReadFrame, WriteFrame},
};
use crate::failure::{Answer, answered};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContextInfo<'c> {
    seq_len: usize,
    num_steps: usize,
    identity: Identity<'c>,
    shape: Shape<'c>,
    tokens: Option<Vec<Option<u32>>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Identity<'i> {
    model_family: &'i str,
    model_id: &'i str,
    model_hash: &'i str,
    hidden_dim: u32,
    num_layers: u32,
    num_kv_heads: u32,
    head_dim: u32,
    tokenizer_hash: &'i str,
}

impl<'i> From<&'i OwnedModelIdentity> for Identity<'i> {
    fn from(identity: &'i OwnedModelIdentity) -> Self {
        Self {
            model_family: &identity.model_family,
            model_id: &identity.model_id,
            model_hash: &identity.model_hash,
            hidden_dim: identity.hidden_dim,
            num_layers: identity.num_layers,
            num_kv_heads: identity.num_kv_heads,
            head_dim: identity.head_dim,
            tokenizer_hash: &identity.tokenizer_hash,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shape<'s> {
    num_layers: usize,
    num_kv_heads: usize,
    head_dim: usize,
    seq_len: usize,
    dtype: &'s str,
}

/// The context as JavaScript holds it. The garbage collector is told its size, else it would see but a few bytes and leave
/// gigabytes of contexts lying that nobody refers to any more.
pub(super) fn held(context: Context) -> External<Context> {
    let layout = context.cache_layout();
    let row = layout.num_kv_heads.saturating_mul(layout.head_dim).saturating_mul(layout.dtype.size());
    let size = row.saturating_mul(2 * layout.num_layers).saturating_mul(context.seq_len());
    External::new_with_size_hint(context, size)
}

/// What there is to know of a context, as JSON.
#[napi]
pub fn context_info(context: &External<Context>) -> Answer<String> {
    answered(|| {
        let layout = context.cache_layout();
        written(&ContextInfo {
            seq_len: context.seq_len(),
            num_steps: context.num_steps(),
            identity: context.identity().into(),
            shape: Shape {
                num_layers: layout.num_layers,
                num_kv_heads: layout.num_kv_heads,
                head_dim: layout.head_dim,
                seq_len: context.seq_len(),
                dtype: layout.dtype.as_str(),
            },
            tokens: context.tokens().map(Iterator::collect),
        })
    })
}

/// The context as a frame: the memory that it is written to is handed over as it is.
#[napi]
pub fn context_to_frame<'env>(
    env: &'env Env,
    context: &External<Context>,
    options: String,
) -> napi::Result<Object<'env>> {
    let context = Context::clone(context);
    promised(env, move || {
        let options = parsed::<WriteFrame>(&options)?;
        Ok(Uint8Array::new(context.to_frame(&options.into())?))
    })
}

/// A context out of a frame. `bytes` are used where they lie: nothing else may write to them from now on, which TypeScript
/// sees to.
#[napi]
pub fn context_from_frame<'env>(
    env: &'env Env,
    bytes: Uint8Array,
    options: String,
) -> napi::Result<Object<'env>> {
    promised(env, move || {
        let (places, options) = (parsed::<Library>(&options)?, parsed::<ReadFrame>(&options)?);
        let runtime = library::runtime(places.library.as_deref(), &places.packaged)?;
        let bytes = Bytes::from_owner(bytes);
        Ok(held(Context::from_bytes(&runtime, bytes, &options.into())?))
    })
}

/// Writes the context to a file.
#[napi]
pub fn context_save<'env>(
    env: &'env Env,
    context: &External<Context>,
    path: String,
    options: String,
) -> napi::Result<Object<'env>> {
    let context = Context::clone(context);
    promised(env, move || {
        let options = parsed::<WriteFrame>(&options)?;
        Ok(context.save_with(path, &options.into())?)
    })
}

/// A context out of a file.
#[napi]
pub fn context_load<'env>(env: &'env Env, path: String, options: String) -> napi::Result<Object<'env>> {
    promised(env, move || {
        let (places, options) = (parsed::<Library>(&options)?, parsed::<ReadFrame>(&options)?);
        let runtime = library::runtime(places.library.as_deref(), &places.packaged)?;
        Ok(held(Context::load(&runtime, path, &options.into())?))
    })
}
