//! The handler with a model: it keeps contexts as the stock one does, and answers from them.

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
    server::{Caller, ContextHandler, Handler, IncomingBody, IncomingFrame, Refusal, ResponseBody},
    store::StoredContext,
    wire::Reply,
};
use http::{Method, Request, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{chat, refusal};
use crate::model::{RunArgs, find_library, load_runtime};

/// Requests that the model works on, or will, at the same time. Each may wait on a thread of its own, so there is an end
/// to them; whoever comes then is asked to come again.
const MOST_REQUESTS: usize = 64;

/// A model and the contexts it may continue from.
pub(super) struct ModelHandler {
    stock: ContextHandler,
    runtime: Runtime,
    model: Model,
    name: String,
    agent_id: String,
    permits: Arc<Semaphore>,
}

/// A request's place among those that the model works on.
pub(super) type Permit = OwnedSemaphorePermit;

impl ModelHandler {
    /// Loads the model in `folder`. From then on `stock` says hello with its identity.
    pub(super) fn load(run: &RunArgs, folder: &Path, agent_id: &str, stock: ContextHandler) -> Result<Self> {
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
            // A folder such as `.` has its name elsewhere.
            "" => folder.canonicalize()?.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            id => id.to_owned(),
        };
        let maps = MapFolder::from_env().ok();
        let stock = stock.identity(identity).evidence(move |ours, theirs| Evidence {
            // Frames come from their model to ours, and so does a map.
            has_stored_map: maps
                .as_ref()
                .is_some_and(|maps| maps.find(&theirs.model_hash, &ours.model_hash).is_some()),
            shared_tokens: None,
        });
        let permits = Arc::new(Semaphore::new(MOST_REQUESTS));
        Ok(Self { stock, runtime, model, name, agent_id: agent_id.to_owned(), permits })
    }

    /// What clients call the model.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A place among the requests that the model works on.
    ///
    /// # Errors
    /// 503 where all are taken.
    pub(super) fn permit(&self) -> Result<Permit, Refusal> {
        let busy = |_| Refusal::busy("busy", "the model has as many requests as it can take");
        self.permits.clone().try_acquire_owned().map_err(busy)
    }

    /// The kept context of this id, where the model can go on from it.
    ///
    /// # Errors
    /// 404 where there is none; 400, naming what differs, where it is another model's or no KV-cache at all.
    pub(super) async fn context(&self, id: &str) -> Result<Context, Refusal> {
        let not_found = || {
            let words = "no context of this id is kept here: it was never sent, or its time is over";
            Refusal::new(StatusCode::NOT_FOUND, "context_not_found", words).of_field("avp_context")
        };
        let kept = self.stock.contexts().get(id).ok_or_else(not_found)?;
        let bytes = kept.bytes().await.map_err(|_| not_found())?;
        let (runtime, model) = (self.runtime.clone(), self.model.clone());
        apart(move || {
            let context = Context::from_bytes(&runtime, bytes, &FrameReadOptions::default());
            let context = context.map_err(|error| refusal::of_context(&error))?;
            model.accepts(&context).map_err(|error| refusal::of_context(&error))?;
            Ok(context)
        })
        .await
    }

    /// The whole answer at once. Whoever stops waiting for it stops the model.
    pub(super) async fn answer(
        &self,
        prompt: Prompt,
        context: Option<Context>,
        options: GenerateOptions,
    ) -> Result<Generation, Refusal> {
        self.stream(prompt, context, options).await?.await.map_err(|error| refusal::of_run(&error))
    }

    /// The answer piece by piece.
    pub(super) async fn stream(
        &self,
        prompt: Prompt,
        context: Option<Context>,
        options: GenerateOptions,
    ) -> Result<GenerationStream, Refusal> {
        let model = self.model.clone();
        // Rendering a chat template takes time.
        apart(move || {
            let stream = model.start_generate(prompt, context.as_ref(), &options);
            stream.map_err(|error| refusal::of_run(&error))
        })
        .await
    }

    /// Thinks, and keeps what the model then knows.
    pub(super) async fn think(
        &self,
        prompt: Prompt,
        context: Option<Context>,
        steps: usize,
    ) -> Result<(Thought, Arc<StoredContext>), Refusal> {
        let model = self.model.clone();
        let options = ThinkOptions::steps(steps);
        let pending = apart(move || Ok(model.start_think(prompt, context.as_ref(), &options))).await?;
        let mut thought = pending.await.map_err(|error| refusal::of_run(&error))?;
        let context = thought.context.take().ok_or_else(Refusal::internal)?;
        let options = FrameOptions { source_agent_id: self.agent_id.clone(), ..FrameOptions::default() };
        let frame = apart(move || context.to_bytes(&options).map_err(|error| refusal::of_context(&error)));
        let kept = self.stock.contexts().insert(frame.await?).await?;
        Ok((thought, kept))
    }

    /// How long a context is kept, in seconds.
    pub(super) fn ttl(&self) -> u64 {
        self.stock.contexts().ttl().as_secs()
    }
}

impl Handler for ModelHandler {
    async fn handshake(&self, hello: Hello, caller: &Caller) -> Result<Reply, Refusal> {
        self.stock.handshake(hello, caller).await
    }

    /// Whatever arrives whole is kept, also what this model cannot use: it may be for another agent.
    async fn transmit(&self, frame: IncomingFrame, caller: &Caller) -> Result<Reply, Refusal> {
        self.stock.transmit(frame, caller).await
    }

    async fn text(&self, message: JsonMessage, _: &Caller) -> Result<Reply, Refusal> {
        self.stock.check_session(&message.session_id)?;
        let _permit = self.permit()?;
        let answer = self.answer(message.content.into(), None, GenerateOptions::default()).await?;
        Ok(Reply::new().with("content", answer.text))
    }

    async fn context(&self, id: &str, caller: &Caller) -> Result<Option<Arc<StoredContext>>, Refusal> {
        self.stock.context(id, caller).await
    }

    async fn delete_context(&self, id: &str, caller: &Caller) -> Result<bool, Refusal> {
        self.stock.delete_context(id, caller).await
    }

    async fn fallback(
        &self,
        request: Request<IncomingBody>,
        _: &Caller,
    ) -> Result<Response<ResponseBody>, Refusal> {
        match (request.uri().path(), request.method()) {
            (chat::COMPLETIONS, &Method::POST) => chat::complete(self, request.into_body()).await,
            (chat::MODELS, &Method::GET) => Ok(chat::models(self)),
            (chat::COMPLETIONS | chat::MODELS, _) => {
                let words = "this path does not take this method";
                Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", words))
            }
            _ => Err(Refusal::not_found("no such path; there are those of AVP, and /v1/chat/completions")),
        }
    }

    fn fallback_refusal(&self, refusal: &Refusal) -> Reply {
        refusal::in_openai_shape(refusal)
    }

    fn remove_expired(&self) {
        self.stock.remove_expired();
    }

    fn stored_bytes(&self) -> u64 {
        self.stock.stored_bytes()
    }
}

/// Does what takes time on a thread where nobody else waits for it.
pub(super) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(Refusal::internal()))
}
