//! One call: its thread, its promise, its end before time.

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

/// Does `work` on a thread of its own and keeps the promise that it returns.
///
/// A thread is what a call costs beside the model's work: the model's queue bounds how many there can be for long.
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

/// What ends a call before its time, from JavaScript's side.
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
    /// What `pending` comes to, unless it is stopped, before or while it runs.
    pub(super) fn wait<T>(&self, pending: Pending<T>) -> Result<T, RunError> {
        self.watch(pending.canceller());
        pending.wait()
    }

    /// Has [`stop`](Self::stop) end this call.
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

/// Something to end one call with.
#[napi]
pub fn new_stop() -> External<std::sync::Arc<Stop>> {
    External::new(std::sync::Arc::default())
}

/// Ends the call, now or as soon as it begins.
#[napi]
pub fn stop(stop: &External<std::sync::Arc<Stop>>) {
    stop.stop();
}

/// Reads what TypeScript hands over as JSON.
pub(super) fn parsed<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, Failure> {
    serde_json::from_str(json).map_err(|error| runtime_failure("bad_request", error))
}

/// Writes an answer as JSON.
pub(super) fn written(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| runtime_failure("internal", error))
}
