//! A handler with a model: it stores contexts and generates from them.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Result;
use avp_core::{
    Evidence,
    messages::{Hello, JsonMessage},
};
use avp_rosetta::MapFolder;
use avp_runtime_ort::{
    Chat, Context, FrameOptions, FrameReadOptions, GenerateOptions, Generation, GenerationStream, Message,
    Model, Prompt, Runtime, StepForm, Steps, Thought,
};
use avp_transport::{
    server::{
        Caller, ContextHandler, ErrorResponse, FairShares, Handler, IncomingBody, IncomingFrame, RequestInfo,
        ResponseBody, ServerOptions, Share,
    },
    store::{ContextLink, StoredContext},
    wire::Reply,
};
use http::{Method, Request, Response, StatusCode};

use super::{ServedModelArgs, chat, costs, error};
use crate::model::{find_library, load_runtime};

/// The maximum number of concurrent requests to the model, each of which may block a thread. Further ones get 503.
pub(super) const MAX_REQUESTS: u64 = 64;

/// A model and its stored contexts.
pub(super) struct ModelHandler {
    contexts: ContextHandler,
    runtime: Runtime,
    model: Model,
    name: String,
    agent_id: String,
    places: FairShares,
    /// The maximum size of a decompressed context, in bytes.
    payload_limit: usize,
    special_tokens_in_content: bool,
    /// The memory of all requests.
    memory: FairShares,
}

/// A context from which the model continues, with its part of the memory.
struct LoadedContext {
    context: Context,
    _memory: Share,
}

/// A request to the model: its place, its context and its memory until it is dropped.
pub(super) struct Running {
    caller: Caller,
    /// The length of the prompt in the request, in bytes.
    prompt_len: usize,
    context: Option<LoadedContext>,
    _place: Share,
    /// That of the KV-cache of the run.
    cache: Option<Share>,
}

impl Running {
    pub(super) const fn has_context(&self) -> bool {
        self.context.is_some()
    }

    fn context(&self) -> Option<&Context> {
        self.context.as_ref().map(|loaded| &loaded.context)
    }
}

impl ModelHandler {
    /// Loads the model in `folder`, whose identity `contexts` then uses in handshakes.
    pub(super) fn load(
        served: &ServedModelArgs,
        folder: &Path,
        agent_id: &str,
        contexts: ContextHandler,
        options: &ServerOptions,
    ) -> Result<Self> {
        let run = &served.run;
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
        let places = FairShares::new(MAX_REQUESTS);
        let payload_limit = options.limits.frame.unpacked;
        let (memory, agent_id) = (options.memory.clone(), agent_id.to_owned());
        let special_tokens_in_content = served.special_tokens_in_content;
        Ok(Self {
            contexts,
            runtime,
            model,
            name,
            agent_id,
            places,
            payload_limit,
            special_tokens_in_content,
            memory,
        })
    }

    /// The model's name in requests.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The prompt of a conversation, whose special tokens are text unless the options say otherwise.
    pub(super) fn prompt(&self, chat: Chat) -> Prompt {
        Prompt::Chat(Chat { special_tokens_as_text: !self.special_tokens_in_content, ..chat })
    }

    /// A place for one more request, with the stored context of this id. The prompt has `prompt_len` bytes in the request.
    ///
    /// # Errors
    /// 503 at the caller's part of the places or the memory; 404 for an unknown context; 400, with the difference, for one of another
    /// model, or that is not a KV-cache.
    pub(super) async fn begin(
        &self,
        prompt_len: usize,
        context_id: Option<&str>,
        info: &RequestInfo,
    ) -> Result<Running, ErrorResponse> {
        let caller = info.caller();
        let most = info.limits().places.unwrap_or(u64::MAX);
        let place = self.places.take_at_most(&caller, 1, most).map_err(|_| {
            ErrorResponse::busy(
                "busy",
                "this caller has reached its limit of concurrent requests to the model",
            )
        })?;
        let context = match context_id {
            Some(id) => Some(self.loaded_context(id, info).await?),
            None => None,
        };
        Ok(Running { caller, prompt_len, context, _place: place, cache: None })
    }

    /// The stored context with this id, if the caller may see it and the model can use it.
    async fn loaded_context(&self, id: &str, info: &RequestInfo) -> Result<LoadedContext, ErrorResponse> {
        let not_found = || {
            let words = "no context with this id is stored here; it may have expired";
            ErrorResponse::new(StatusCode::NOT_FOUND, "context_not_found", words).of_field("avp_context")
        };
        let stored = match id.parse() {
            Ok(link) => self.contexts.linked_context(&link, info).await?,
            Err(_) => self.contexts.context(id, info).await?,
        };
        let stored = stored.ok_or_else(not_found)?;
        let mut memory = self.memory.take(&info.caller(), stored.len() + stored.reader_memory())?;
        let (runtime, model, payload_limit) = (self.runtime.clone(), self.model.clone(), self.payload_limit);
        // One piece of work, which holds the memory to its end, when the client has disconnected too.
        let loading = tokio::spawn(async move {
            let bytes = stored.bytes().await.map_err(|_| not_found())?;
            blocking(move || {
                let cost = costs::context(&model, &bytes, payload_limit);
                let cost = cost.map_err(|error| error::of_context(&error))?;
                memory.grow_to(cost.memory)?;
                let payload_limit = cost.payload_limit;
                let options = FrameReadOptions { payload_limit, ..FrameReadOptions::default() };
                let context = Context::from_bytes(&runtime, bytes, &options);
                let context = context.map_err(|error| error::of_context(&error))?;
                model.accepts(&context).map_err(|error| error::of_context(&error))?;
                Ok(LoadedContext { context, _memory: memory })
            })
            .await
        });
        loading.await.unwrap_or_else(|_| Err(ErrorResponse::internal()))
    }

    /// Generates the whole answer. Dropping the future cancels the run.
    pub(super) async fn answer(
        &self,
        running: Running,
        prompt: Prompt,
        options: GenerateOptions,
    ) -> Result<Generation, ErrorResponse> {
        let (stream, running) = self.stream(running, prompt, options).await?;
        let answer = stream.await;
        answer.map_err(|error| error::of_run_behind(running.has_context(), &error))
    }

    /// Generates the answer as a stream.
    pub(super) async fn stream(
        &self,
        mut running: Running,
        prompt: Prompt,
        options: GenerateOptions,
    ) -> Result<(GenerationStream, Running), ErrorResponse> {
        let (model, memory) = (self.model.clone(), self.memory.clone());
        // Rendering a chat template takes time.
        blocking(move || {
            let (text, tokenizing) = render(&model, &memory, &running, prompt)?;
            let stream = model.start_generate(text, running.context(), &options);
            drop(tokenizing);
            let stream = stream.map_err(|error| error::of_run_behind(running.has_context(), &error))?;
            // If there is no memory for the run, dropping the stream ends it.
            let read = stream.so_far();
            let tokens = read.context_tokens + read.prompt_tokens + options.max_tokens.min(model.window());
            running.cache = Some(memory.take(&running.caller, costs::run(&model, tokens))?);
            Ok((stream, running))
        })
        .await
    }

    /// The memory for the events of an answer that its client may leave unread.
    pub(super) fn event_memory(
        &self,
        running: &Running,
        options: &GenerateOptions,
    ) -> Result<Share, ErrorResponse> {
        let events = options.max_tokens.min(self.model.window());
        Ok(self.memory.take(&running.caller, costs::events(events))?)
    }

    /// Runs latent steps, and stores the resulting context.
    pub(super) async fn think(
        &self,
        mut running: Running,
        prompt: Prompt,
        (steps, form): (Steps, Option<StepForm>),
        info: &RequestInfo,
    ) -> Result<(Thought, Arc<StoredContext>), ErrorResponse> {
        let (model, memory) = (self.model.clone(), self.memory.clone());
        let pending = blocking(move || {
            let options = steps.options(&model, form).map_err(|error| error::of_run(&error))?;
            let (text, tokenizing) = render(&model, &memory, &running, prompt)?;
            let prompt_tokens = model.tokenize(&text).map_err(|error| error::of_run(&error))?.len();
            let context_tokens = running.context().map_or(0, Context::seq_len);
            let tokens = context_tokens + prompt_tokens + options.steps.min(model.window());
            running.cache = Some(memory.take(&running.caller, costs::run(&model, tokens))?);
            let pending = model.start_think(text, running.context(), &options);
            drop(tokenizing);
            Ok((pending, running))
        });
        let (pending, running) = pending.await?;
        let thought = pending.await;
        let mut thought = thought.map_err(|error| error::of_run_behind(running.has_context(), &error))?;
        let context = thought.context.take().ok_or_else(ErrorResponse::internal)?;
        let options = FrameOptions { source_agent_id: self.agent_id.clone(), ..FrameOptions::default() };
        let frame = blocking(move || context.to_bytes(&options).map_err(|error| error::of_context(&error)));
        let stored = self.contexts.contexts().insert_for(info.owner(), frame.await?).await?;
        info.note_context(stored.id(), Some(stored.etag()));
        Ok((thought, stored))
    }

    /// The handler of the contexts.
    pub(super) const fn stock(&self) -> &ContextHandler {
        &self.contexts
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

    async fn text(&self, message: JsonMessage, info: &RequestInfo) -> Result<Reply, ErrorResponse> {
        self.contexts.check_session(&message.session_id)?;
        let running = self.begin(message.content.len(), None, info).await?;
        let prompt = self.prompt(vec![Message::new("user", message.content)].into());
        let answer = self.answer(running, prompt, GenerateOptions::default()).await?;
        Ok(Reply::new().with("content", answer.text))
    }

    async fn context(
        &self,
        id: &str,
        info: &RequestInfo,
    ) -> Result<Option<Arc<StoredContext>>, ErrorResponse> {
        self.contexts.context(id, info).await
    }

    async fn link_context(
        &self,
        id: &str,
        valid_for: Option<Duration>,
        info: &RequestInfo,
    ) -> Result<Option<Reply>, ErrorResponse> {
        self.contexts.link_context(id, valid_for, info).await
    }

    async fn linked_context(
        &self,
        link: &ContextLink,
        info: &RequestInfo,
    ) -> Result<Option<Arc<StoredContext>>, ErrorResponse> {
        self.contexts.linked_context(link, info).await
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

/// Renders a prompt. Keep the memory until its tokens have been read.
fn render(
    model: &Model,
    memory: &FairShares,
    running: &Running,
    prompt: Prompt,
) -> Result<(Prompt, Share), ErrorResponse> {
    let mut share = memory.take(&running.caller, costs::rendering(running.prompt_len))?;
    let text = model.render(&prompt).map_err(|error| error::of_run(&error))?;
    drop(prompt);
    share.grow_to(costs::tokenizing(text.text_len()))?;
    Ok((Prompt::Rendered(text), share))
}

/// Runs blocking work on a thread for it.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ErrorResponse> + Send + 'static,
) -> Result<T, ErrorResponse> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(ErrorResponse::internal()))
}

#[cfg(test)]
mod tests {
    use avp_core::{Compression, Frame, Header, decompression_memory};
    use avp_transport::{
        server::{Principal, PrincipalLimits},
        store::{ContextStore, StoreOptions},
    };
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        served: ServedModelArgs,
    }

    fn load() -> ModelHandler {
        let served = Arguments::parse_from(["test"]).served;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/facts");
        let store = ContextStore::in_memory(StoreOptions::default());
        let contexts = ContextHandler::new("server", store);
        ModelHandler::load(&served, &folder, "server", contexts, &ServerOptions::default()).unwrap()
    }

    /// A context of the model as a frame.
    fn frame(handler: &ModelHandler, compression: Compression) -> Vec<u8> {
        let thought = handler.model.start_think(
            "Rosa lives in Lisbon.",
            None,
            &avp_runtime_ort::ThinkOptions::steps(2),
        );
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

    /// Loads a stored context, as a request without a token does.
    async fn loaded(handler: &ModelHandler, id: &str) -> Result<LoadedContext, ErrorResponse> {
        handler.loaded_context(id, &RequestInfo::default()).await
    }

    /// Memory of which one caller can hold `most` bytes.
    fn memory(most: u64) -> FairShares {
        let memory = FairShares::new(most * 5 / 4);
        assert_eq!(memory.most(), most);
        memory
    }

    #[tokio::test]
    async fn the_contexts_of_all_requests_share_the_memory() {
        let mut handler = load();
        let plain = frame(&handler, Compression::None);
        let packed = frame(&handler, Compression::Fast);
        let unstated = without_content_size(&packed);
        let payload_len = Frame::decode(&plain).unwrap().body().len();
        for frame in [&plain, &packed, &unstated] {
            let id = keep(&handler, frame).await;
            let read = Frame::decode(frame).unwrap();
            let unpacking = match read.is_compressed() {
                true => payload_len + decompression_memory(read.body(), handler.payload_limit),
                false => 0,
            };
            let needed = (frame.len() + unpacking) as u64;
            handler.memory = memory(needed - 1);
            let refused = loaded(&handler, &id).await.err().unwrap();
            assert_eq!(refused.code(), "too_large_for_memory", "it does not fit alone");
            handler.memory = memory(needed);
            let first = loaded(&handler, &id).await.unwrap();
            assert_eq!(handler.memory.taken(), needed);
            let second = loaded(&handler, &id).await.err().unwrap();
            assert_eq!((second.status().as_u16(), second.code()), (503, "no_room"));
            assert!(second.try_again().is_some());
            drop(first);
            assert!(loaded(&handler, &id).await.is_ok(), "its memory is free again");
        }
    }

    #[tokio::test]
    async fn a_compressed_context_over_the_limit_is_refused() {
        let mut handler = load();
        let packed = frame(&handler, Compression::Fast);
        let payload_len = Frame::decode(&packed).unwrap().decompress(usize::MAX).unwrap().len();
        handler.payload_limit = payload_len - 1;
        for frame in [&packed, &without_content_size(&packed)] {
            let refused = loaded(&handler, &keep(&handler, frame).await).await.err().unwrap();
            assert_eq!((refused.status().as_u16(), refused.field()), (400, Some("avp_context")), "{refused}");
        }
        handler.payload_limit += 1;
        assert!(loaded(&handler, &keep(&handler, &packed).await).await.is_ok());
    }

    #[tokio::test]
    async fn a_principal_has_no_more_places_than_its_own_limit() {
        let handler = load();
        let limits = PrincipalLimits { places: Some(1), ..Default::default() };
        let principal = Some(Arc::new(Principal { name: "batch".into(), limits, ..Default::default() }));
        let mut info = RequestInfo::default();
        info.principal = principal;
        let first = handler.begin(0, None, &info).await.unwrap();
        assert_eq!(handler.begin(0, None, &info).await.err().unwrap().code(), "busy");
        assert!(handler.begin(0, None, &RequestInfo::default()).await.is_ok(), "others have their own");
        drop(first);
        assert!(handler.begin(0, None, &info).await.is_ok());
    }

    fn running(handler: &ModelHandler, prompt_len: usize) -> Running {
        let place = handler.places.take(&Caller::at(None), 1).unwrap();
        Running { caller: Caller::at(None), prompt_len, context: None, _place: place, cache: None }
    }

    #[tokio::test]
    async fn a_run_has_memory_for_its_prompt_and_its_cache() {
        let mut handler = load();
        let start = |handler: &ModelHandler, len| {
            let prompt = Prompt::Raw("a".repeat(len));
            render(&handler.model, &handler.memory, &running(handler, len), prompt).map(drop)
        };
        handler.memory = memory(costs::tokenizing(1000));
        assert!(start(&handler, 1000).is_ok());
        assert_eq!(start(&handler, 1001).unwrap_err().code(), "too_large_for_memory");
        assert_eq!(handler.memory.taken(), 0);
        let options = GenerateOptions { max_tokens: 3, ..GenerateOptions::default() };
        let (stream, running) = handler.stream(running(&handler, 2), "Hi".into(), options).await.unwrap();
        let tokens = stream.so_far().prompt_tokens + 3;
        assert_eq!(handler.memory.taken(), costs::run(&handler.model, tokens));
        drop((stream, running));
        assert_eq!((handler.memory.taken(), handler.places.taken()), (0, 0));
    }
}
