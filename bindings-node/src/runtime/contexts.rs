//! Contexts: inspected, written and read.

use avp_js_operations::identity::Identity;
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
    options::{ReadFrame, WriteFrame},
};
use crate::failure::{Answer, answered};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContextInfo<'c> {
    seq_len: usize,
    num_steps: usize,
    identity: Identity,
    shape: Shape<'c>,
    tokens: Option<Vec<Option<u32>>>,
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

/// The context for JavaScript. The garbage collector is told its size: it would otherwise leave gigabytes of unreachable
/// contexts in memory, because each seems to have a few bytes.
pub(super) fn held(context: Context) -> External<Context> {
    let layout = context.cache_layout();
    let row = layout.num_kv_heads.saturating_mul(layout.head_dim).saturating_mul(layout.dtype.size());
    let size = row.saturating_mul(2 * layout.num_layers).saturating_mul(context.seq_len());
    External::new_with_size_hint(context, size)
}

/// The properties of a context, as JSON.
#[napi]
pub fn context_info(context: &External<Context>) -> Answer<String> {
    answered(|| {
        let layout = context.cache_layout();
        written(&ContextInfo {
            seq_len: context.seq_len(),
            num_steps: context.num_steps(),
            identity: Identity(context.identity().clone()),
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

/// The context as a frame, in memory that JavaScript takes over.
#[napi]
pub fn context_to_frame<'env>(
    env: &'env Env,
    context: &External<Context>,
    options: String,
) -> napi::Result<Object<'env>> {
    let context = Context::clone(context);
    promised(env, move || {
        let options = parsed::<WriteFrame>(&options, "options")?;
        Ok(Uint8Array::new(context.to_frame(&options.into())?))
    })
}

/// A context from a frame. `bytes` are used in place: TypeScript makes sure that nothing else writes to them.
#[napi]
pub fn context_from_frame<'env>(
    env: &'env Env,
    bytes: Uint8Array,
    options: String,
    library: String,
) -> napi::Result<Object<'env>> {
    promised(env, move || {
        let options = parsed::<ReadFrame>(&options, "options")?;
        let runtime = library::runtime(&parsed(&library, "options")?)?;
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
        let options = parsed::<WriteFrame>(&options, "options")?;
        Ok(context.save_with(path, &options.into())?)
    })
}

/// A context from a file.
#[napi]
pub fn context_load<'env>(
    env: &'env Env,
    path: String,
    options: String,
    library: String,
) -> napi::Result<Object<'env>> {
    promised(env, move || {
        let options = parsed::<ReadFrame>(&options, "options")?;
        let runtime = library::runtime(&parsed(&library, "options")?)?;
        Ok(held(Context::load(&runtime, path, &options.into())?))
    })
}
