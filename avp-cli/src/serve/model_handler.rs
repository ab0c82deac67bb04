//! A handler with a model: it stores contexts and generates from them.

use std::{path::Path, sync::Arc};

use anyhow::Result;
use avp_core::{
    Evidence,
    messages::{Hello, JsonMessage},
};
use avp_rosetta::MapFolder;
use avp_runtime_ort::{
    Context, FrameOptions, FrameReadOptions, GenerateOptions, Generation, GenerationStream, Model, Prompt,
    Runtime, ThinkOptions, Thought,
};
use avp_transport::{
    server::{
        ByteSemaphore, ContextHandler, ErrorResponse, Handler, IncomingBody, IncomingFrame, Limits,
        RequestInfo, ResponseBody,
    },
    store::StoredContext,
    wire::Reply,
};
use http::{Method, Request, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{chat, error};
use crate::model::{RunArgs, find_library, load_runtime};

/// The maximum number of concurrent requests to the model, each of which may block a thread. Further ones get 503.
const MAX_REQUESTS: usize = 64;

/// A model and its stored contexts.
pub(super) struct ModelHandler {
    contexts: ContextHandler,
    runtime: Runtime,
    model: Model,
    name: String,
    agent_id: String,
    permits: Arc<Semaphore>,
    /// The maximum size of a decompressed context, in bytes.
    payload_limit: usize,
    /// The memory for the contexts of all requests.
    memory: ByteSemaphore,
}

/// A context from which the model continues. It occupies its part of the memory for contexts until the last clone is dropped.
#[derive(Clone)]
pub(super) struct LoadedContext {
    context: Context,
    _memory: Arc<OwnedSemaphorePermit>,
}

impl LoadedContext {
    const fn get(&self) -> &Context {
        &self.context
    }
}

/// The permit for a request to the model.
pub(super) type Permit = OwnedSemaphorePermit;

impl ModelHandler {
    /// Loads the model in `folder`, whose identity `contexts` then uses in handshakes.
    pub(super) fn load(
        run: &RunArgs,
        folder: &Path,
        agent_id: &str,
        contexts: ContextHandler,
        limits: &Limits,
    ) -> Result<Self> {
        let library = find_library(run.library.onnxruntime.as_deref())?;
        let runtime = load_runtime(&library)?;
        let model = run.load(&runtime, folder)?;
        tracing::info!(
            version = library.version(),
            path = %library.path().display(),
            source = %library.source(),
            "running models on ONNX Runtime"
        );
        let identity = model.identity().clone();
        let name = match identity.model_id.as_str() {
            // The canonical path of a folder such as `.` has its name.
            "" => folder.canonicalize()?.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            id => id.to_owned(),
        };
        let maps = MapFolder::from_env().ok();
        let contexts = contexts.identity(identity).evidence(move |ours, theirs| Evidence {
            // Frames come from their model, so the map is from theirs to ours.
            has_stored_map: maps
                .as_ref()
                .is_some_and(|maps| maps.find(&theirs.model_hash, &ours.model_hash).is_some()),
            shared_tokens: None,
        });
        let permits = Arc::new(Semaphore::new(MAX_REQUESTS));
        let payload_limit = limits.frame.unpacked;
        // The largest context that a client can send fits, alone.
        let largest = limits.frame.frame.saturating_add(payload_limit as u64);
        let memory = ByteSemaphore::new(limits.buffered.max(largest));
        let agent_id = agent_id.to_owned();
        Ok(Self { contexts, runtime, model, name, agent_id, permits, payload_limit, memory })
    }

    /// The model's name in requests.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A permit for one more request.
    ///
    /// # Errors
    /// 503 at the limit.
    pub(super) fn permit(&self) -> Result<Permit, ErrorResponse> {
        let busy = |_| ErrorResponse::busy("busy", "the model has reached its limit of concurrent requests");
        self.permits.clone().try_acquire_owned().map_err(busy)
    }

    /// The stored context with this id, if the caller may see it and the model can use it.
    ///
    /// # Errors
    /// 404 for an unknown id; 400, with the difference, for a context of another model, or one that is not a KV-cache; 503 while
    /// the contexts of other requests occupy the memory for it.
    pub(super) async fn loaded_context(
        &self,
        id: &str,
        info: &RequestInfo,
    ) -> Result<LoadedContext, ErrorResponse> {
        let not_found = || {
            let words = "no context with this id is stored here; it may have expired";
            ErrorResponse::new(StatusCode::NOT_FOUND, "context_not_found", words).of_field("avp_context")
        };
        let stored = self.contexts.context(id, info).await?.ok_or_else(not_found)?;
        let mut payload_limit = self.payload_limit;
        let mut needed = stored.len();
        if stored.head().header().flags().is_compressed() {
            let stated = stored.payload_len().await.map_err(|_| not_found())?;
            let stated = stated.and_then(|len| usize::try_from(len).ok()).unwrap_or(usize::MAX);
            payload_limit = payload_limit.min(stated);
            needed = needed.saturating_add(payload_limit as u64);
        }
        let memory = self.memory.try_acquire(needed).ok_or_else(|| {
            let words = format!("no room for {needed} bytes beside the contexts of other requests");
            ErrorResponse::busy("no_room", words)
        })?;
        let (runtime, model) = (self.runtime.clone(), self.model.clone());
        // One piece of work, which holds the permit to its end, when the client has disconnected too.
        let loading = tokio::spawn(async move {
            let bytes = stored.bytes().await.map_err(|_| not_found())?;
            blocking(move || {
                let options = FrameReadOptions { payload_limit, ..FrameReadOptions::default() };
                let context = Context::from_bytes(&runtime, bytes, &options);
                let context = context.map_err(|error| error::of_context(&error))?;
                model.accepts(&context).map_err(|error| error::of_context(&error))?;
                Ok(LoadedContext { context, _memory: Arc::new(memory) })
            })
            .await
        });
        loading.await.unwrap_or_else(|_| Err(ErrorResponse::internal()))
    }

    /// Generates the whole answer. Dropping the future cancels the run.
    pub(super) async fn answer(
        &self,
        prompt: Prompt,
        context: Option<&LoadedContext>,
        options: GenerateOptions,
    ) -> Result<Generation, ErrorResponse> {
        let has_context = context.is_some();
        let answer = self.stream(prompt, context, options).await?.await;
        answer.map_err(|error| error::of_run_behind(has_context, &error))
    }

    /// Generates the answer as a stream. Keep the context until the stream ends.
    pub(super) async fn stream(
        &self,
        prompt: Prompt,
        context: Option<&LoadedContext>,
        options: GenerateOptions,
    ) -> Result<GenerationStream, ErrorResponse> {
        let (model, context) = (self.model.clone(), context.cloned());
        // Rendering a chat template takes time.
        blocking(move || {
            let stream = model.start_generate(prompt, context.as_ref().map(LoadedContext::get), &options);
            stream.map_err(|error| error::of_run_behind(context.is_some(), &error))
        })
        .await
    }

    /// Runs latent steps, and stores the resulting context.
    pub(super) async fn think(
        &self,
        prompt: Prompt,
        context: Option<&LoadedContext>,
        steps: usize,
        info: &RequestInfo,
    ) -> Result<(Thought, Arc<StoredContext>), ErrorResponse> {
        let (model, context, has_context) = (self.model.clone(), context.cloned(), context.is_some());
        let pending = blocking(move || {
            let context = context.as_ref().map(LoadedContext::get);
            Ok(model.start_think(prompt, context, &ThinkOptions::steps(steps)))
        });
        let mut thought = pending.await?.await.map_err(|error| error::of_run_behind(has_context, &error))?;
        let context = thought.context.take().ok_or_else(ErrorResponse::internal)?;
        let options = FrameOptions { source_agent_id: self.agent_id.clone(), ..FrameOptions::default() };
        let frame = blocking(move || context.to_bytes(&options).map_err(|error| error::of_context(&error)));
        let stored = self.contexts.contexts().insert_for(info.owner(), frame.await?).await?;
        Ok((thought, stored))
    }

    /// The lifetime of a stored context, in seconds.
    pub(super) fn ttl(&self) -> u64 {
        self.contexts.contexts().ttl().as_secs()
    }
}

impl Handler for ModelHandler {
    async fn handshake(&self, hello: Hello, info: &RequestInfo) -> Result<Reply, ErrorResponse> {
        self.contexts.handshake(hello, info).await
    }

    /// Stores every valid frame, including those that this model cannot use: they may be for another agent.
    async fn transmit(&self, frame: IncomingFrame, info: &RequestInfo) -> Result<Reply, ErrorResponse> {
        self.contexts.transmit(frame, info).await
    }

    async fn text(&self, message: JsonMessage, _: &RequestInfo) -> Result<Reply, ErrorResponse> {
        self.contexts.check_session(&message.session_id)?;
        let _permit = self.permit()?;
        let answer = self.answer(message.content.into(), None, GenerateOptions::default()).await?;
        Ok(Reply::new().with("content", answer.text))
    }

    async fn context(
        &self,
        id: &str,
        info: &RequestInfo,
    ) -> Result<Option<Arc<StoredContext>>, ErrorResponse> {
        self.contexts.context(id, info).await
    }

    async fn delete_context(&self, id: &str, info: &RequestInfo) -> Result<bool, ErrorResponse> {
        self.contexts.delete_context(id, info).await
    }

    async fn fallback(
        &self,
        request: Request<IncomingBody>,
        info: &RequestInfo,
    ) -> Result<Response<ResponseBody>, ErrorResponse> {
        match (request.uri().path(), request.method()) {
            (chat::COMPLETIONS, &Method::POST) => chat::complete(self, request.into_body(), info).await,
            (chat::MODELS, &(Method::GET | Method::HEAD)) => Ok(chat::models(self)),
            (chat::COMPLETIONS, _) => Err(ErrorResponse::method_not_allowed(&[Method::POST])),
            (chat::MODELS, _) => Err(ErrorResponse::method_not_allowed(&[Method::GET, Method::HEAD])),
            _ => Err(ErrorResponse::not_found("no such path; expected one under /avp/v2/ or /v1/")),
        }
    }

    fn fallback_error(&self, error: &ErrorResponse) -> Reply {
        error::in_openai_format(error)
    }

    fn remove_expired(&self) {
        self.contexts.remove_expired();
    }

    fn stored_bytes(&self) -> u64 {
        self.contexts.stored_bytes()
    }
}

/// Runs blocking work on a thread for it.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ErrorResponse> + Send + 'static,
) -> Result<T, ErrorResponse> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(ErrorResponse::internal()))
}

#[cfg(test)]
mod tests {
    use avp_core::{Compression, Frame, FrameLimits, Header};
    use avp_transport::store::{ContextStore, StoreOptions};
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        run: RunArgs,
    }

    fn load(limits: &Limits) -> ModelHandler {
        let run = Arguments::parse_from(["test"]).run;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/facts");
        let store = ContextStore::in_memory(StoreOptions::default());
        ModelHandler::load(&run, &folder, "server", ContextHandler::new("server", store), limits).unwrap()
    }

    /// A context of the model as a frame.
    fn frame(handler: &ModelHandler, compression: Compression) -> Vec<u8> {
        let thought = handler.model.start_think("Rosa lives in Lisbon.", None, &ThinkOptions::steps(2));
        let context = thought.wait().unwrap().context.unwrap();
        context.to_frame(&FrameOptions { compression, ..FrameOptions::default() }).unwrap()
    }

    /// A compressed frame whose body does not state its content size.
    fn without_content_size(packed: &[u8]) -> Vec<u8> {
        let frame = Frame::decode(packed).unwrap();
        let payload = frame.decompress(usize::MAX).unwrap();
        // No content size, a window of 8 MiB, raw blocks (RFC 8878, 3.1.1).
        let mut body = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 13 << 3];
        let mut blocks = payload.chunks(100_000).peekable();
        while let Some(block) = blocks.next() {
            let header = (block.len() as u32) << 3 | u32::from(blocks.peek().is_none());
            body.extend_from_slice(&header.to_le_bytes()[..3]);
            body.extend_from_slice(block);
        }
        let header = frame.header();
        let header = Header::new(header.flags(), header.metadata_len(), body.len() as u32).unwrap();
        [&header.encode()[..], &packed[Header::LEN..frame.body_offset()], &body].concat()
    }

    async fn keep(handler: &ModelHandler, frame: &[u8]) -> String {
        let stored = handler.contexts.contexts().insert(frame.to_vec().into()).await.unwrap();
        stored.id().to_owned()
    }

    #[tokio::test]
    async fn the_contexts_of_all_requests_share_a_limit_of_memory() {
        let mut handler = load(&Limits::default());
        let plain = frame(&handler, Compression::None);
        let packed = frame(&handler, Compression::Fast);
        let unstated = without_content_size(&packed);
        let payload_len = Frame::decode(&plain).unwrap().body().len();
        handler.payload_limit = payload_len + 1_000_000;
        for (frame, uncompressed) in [(&plain, 0), (&packed, payload_len), (&unstated, handler.payload_limit)]
        {
            let id = keep(&handler, frame).await;
            // The semaphore counts whole pages.
            let needed = ((frame.len() + uncompressed) as u64).next_multiple_of(4096);
            handler.memory = ByteSemaphore::new(needed - 4096);
            assert_eq!(
                handler.loaded_context(&id, &RequestInfo::default()).await.err().unwrap().code(),
                "no_room",
                "it does not fit alone"
            );
            handler.memory = ByteSemaphore::new(needed);
            let first = handler.loaded_context(&id, &RequestInfo::default()).await.unwrap();
            let second = handler.loaded_context(&id, &RequestInfo::default()).await.err().unwrap();
            assert_eq!((second.status().as_u16(), second.code()), (503, "no_room"));
            assert!(second.try_again().is_some());
            drop(first);
            assert!(
                handler.loaded_context(&id, &RequestInfo::default()).await.is_ok(),
                "its memory is free again"
            );
        }
    }

    #[tokio::test]
    async fn a_compressed_context_over_the_limit_is_refused() {
        let mut handler = load(&Limits::default());
        let packed = frame(&handler, Compression::Fast);
        let payload_len = Frame::decode(&packed).unwrap().decompress(usize::MAX).unwrap().len();
        handler.payload_limit = payload_len - 1;
        for frame in [&packed, &without_content_size(&packed)] {
            let refused = handler
                .loaded_context(&keep(&handler, frame).await, &RequestInfo::default())
                .await
                .err()
                .unwrap();
            assert_eq!((refused.status().as_u16(), refused.field()), (400, Some("avp_context")), "{refused}");
        }
        handler.payload_limit += 1;
        assert!(
            handler.loaded_context(&keep(&handler, &packed).await, &RequestInfo::default()).await.is_ok()
        );
    }

    #[test]
    fn the_largest_context_fits_alone() {
        let frame = FrameLimits { frame: 3 << 30, unpacked: 3 << 30, ..FrameLimits::default() };
        let memory = load(&Limits { frame, ..Limits::default() }).memory;
        assert!(memory.try_acquire(6 << 30).is_some() && memory.try_acquire((6 << 30) + 1).is_none());
    }
}
