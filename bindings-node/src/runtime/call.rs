//! One call: thread, promise, cancellation.

use std::{
    sync::{Mutex, PoisonError},
    thread,
};

use avp_runtime_ort::{Canceller, Pending, RunError};
use napi::{
    Env, Error,
    bindgen_prelude::{External, Object, ToNapiValue},
};
use napi_derive::napi;

use super::fault::runtime_failure;
use crate::failure::{Answer, Failure, answered};

/// Runs `work` on its own thread and settles the returned promise with its result.
///
/// The model's queue bounds the number of threads.
pub(super) fn promised<'env, T, W>(env: &'env Env, work: W) -> napi::Result<Object<'env>>
where
    T: ToNapiValue + Send + 'static,
    W: FnOnce() -> Result<T, Failure> + Send + 'static,
{
    let (deferred, promise) = env.create_deferred::<Answer<T>, Settle<T>>()?;
    on_a_thread(move || {
        let answer = answered(work);
        deferred.resolve(Box::new(move |_| Ok(answer)));
    })?;
    Ok(promise)
}

type Settle<T> = Box<dyn FnOnce(Env) -> napi::Result<Answer<T>>>;

pub(super) fn on_a_thread(work: impl FnOnce() + Send + 'static) -> napi::Result<()> {
    let thread = thread::Builder::new().name("avp-call".to_owned()).spawn(work);
    thread.map(drop).map_err(|error| Error::from_reason(format!("no thread for the call: {error}")))
}

/// Cancels a call from JavaScript.
#[derive(Default)]
pub struct Stop(Mutex<Stage>);

#[derive(Default)]
enum Stage {
    #[default]
    Waiting,
    Running(Canceller),
    Stopped,
}

impl Stop {
    /// Waits for `pending`, which can be stopped before or while it runs.
    pub(super) fn wait<T>(&self, pending: Pending<T>) -> Result<T, RunError> {
        self.watch(pending.canceller());
        pending.wait()
    }

    /// Makes [`stop`](Self::stop) cancel this call.
    pub(super) fn watch(&self, canceller: Canceller) {
        let mut stage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*stage {
            Stage::Stopped => canceller.cancel(),
            _ => *stage = Stage::Running(canceller),
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        matches!(*self.0.lock().unwrap_or_else(PoisonError::into_inner), Stage::Stopped)
    }

    fn stop(&self) {
        let before =
            std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), Stage::Stopped);
        if let Stage::Running(canceller) = before {
            canceller.cancel();
        }
    }
}

/// Creates a handle that cancels one call.
#[napi]
pub fn new_stop() -> External<std::sync::Arc<Stop>> {
    External::new(std::sync::Arc::default())
}

/// Cancels the call, now or when it starts.
#[napi]
pub fn stop(stop: &External<std::sync::Arc<Stop>>) {
    stop.stop();
}

/// Reads the JSON of the argument called `name`.
pub(super) fn parsed<T: serde::de::DeserializeOwned>(json: &str, name: &str) -> Result<T, Failure> {
    Ok(avp_js_operations::argument::argument(json, name)?)
}

/// Writes a result as JSON.
pub(super) fn written(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| runtime_failure("internal", error))
}
