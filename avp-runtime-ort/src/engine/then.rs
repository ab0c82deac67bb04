//! A task that follows another.

use std::ops::ControlFlow;

use super::{Fallback, Progress, Task};
use crate::{RunError, decoder::Decoder};

/// Runs `first`, then what `next` makes of its output. With a `fallback`, an error of either is no error of the call.
pub(crate) fn then<A: Send + 'static, B: Send + 'static>(
    first: Box<dyn Task<Output = A>>,
    next: impl FnOnce(A) -> Result<Progress<B>, RunError> + Send + 'static,
    fallback: Option<Fallback<B>>,
) -> Box<dyn Task<Output = B>> {
    Box::new(Then { first, next, fallback })
}

struct Then<A, B, F> {
    first: Box<dyn Task<Output = A>>,
    next: F,
    fallback: Option<Fallback<B>>,
}

impl<A, B, F> Task for Then<A, B, F>
where
    A: Send + 'static,
    B: Send + 'static,
    F: FnOnce(A) -> Result<Progress<B>, RunError> + Send + 'static,
{
    type Output = B;

    fn step(mut self: Box<Self>, decoder: &mut Decoder) -> Result<Progress<B>, RunError> {
        match self.first.step(decoder)? {
            ControlFlow::Continue(first) => {
                self.first = first;
                Ok(ControlFlow::Continue(self))
            }
            ControlFlow::Break(output) => (self.next)(output),
        }
    }

    fn fallback(&mut self) -> Option<Fallback<B>> {
        self.fallback.take()
    }
}
