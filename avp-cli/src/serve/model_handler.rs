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
        ContextHandler, ErrorResponse, Handler, IncomingBody, IncomingFrame, RequestInfo, ResponseBody,
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
        Ok(Self { contexts, runtime, model, name, agent_id: agent_id.to_owned(), permits })
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

    /// The stored context with this id, if the model can use it.
    ///
    /// # Errors
    /// 404 for an unknown id; 400, with the difference, for a context of another model, or one that is not a KV-cache.
    pub(super) async fn context(&self, id: &str) -> Result<Context, ErrorResponse> {
        let not_found = || {
            let words = "no context with this id is stored here; it may have expired";
            ErrorResponse::new(StatusCode::NOT_FOUND, "context_not_found", words).of_field("avp_context")
        };
        let stored = self.contexts.contexts().get(id).ok_or_else(not_found)?;
        let bytes = stored.bytes().await.map_err(|_| not_found())?;
        let (runtime, model) = (self.runtime.clone(), self.model.clone());
        blocking(move || {
            let context = Context::from_bytes(&runtime, bytes, &FrameReadOptions::default());
            let context = context.map_err(|error| error::of_context(&error))?;
            model.accepts(&context).map_err(|error| error::of_context(&error))?;
            Ok(context)
        })
        .await
    }

    /// Generates the whole answer. Dropping the future cancels the run.
    pub(super) async fn answer(
        &self,
        prompt: Prompt,
        context: Option<Context>,
        options: GenerateOptions,
    ) -> Result<Generation, ErrorResponse> {
        self.stream(prompt, context, options).await?.await.map_err(|error| error::of_run(&error))
    }

    /// Generates the answer as a stream.
    pub(super) async fn stream(
        &self,
        prompt: Prompt,
        context: Option<Context>,
        options: GenerateOptions,
    ) -> Result<GenerationStream, ErrorResponse> {
        let model = self.model.clone();
        // Rendering a chat template takes time.
        blocking(move || {
            let stream = model.start_generate(prompt, context.as_ref(), &options);
            stream.map_err(|error| error::of_run(&error))
        })
        .await
    }

    /// Runs latent steps, and stores the resulting context.
    pub(super) async fn think(
        &self,
        prompt: Prompt,
        context: Option<Context>,
        steps: usize,
    ) -> Result<(Thought, Arc<StoredContext>), ErrorResponse> {
        let model = self.model.clone();
        let options = ThinkOptions::steps(steps);
        let pending = blocking(move || Ok(model.start_think(prompt, context.as_ref(), &options))).await?;
        let mut thought = pending.await.map_err(|error| error::of_run(&error))?;
        let context = thought.context.take().ok_or_else(ErrorResponse::internal)?;
        let options = FrameOptions { source_agent_id: self.agent_id.clone(), ..FrameOptions::default() };
        let frame = blocking(move || context.to_bytes(&options).map_err(|error| error::of_context(&error)));
        let stored = self.contexts.contexts().insert(frame.await?).await?;
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
        _: &RequestInfo,
    ) -> Result<Response<ResponseBody>, ErrorResponse> {
        match (request.uri().path(), request.method()) {
            (chat::COMPLETIONS, &Method::POST) => chat::complete(self, request.into_body()).await,
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
