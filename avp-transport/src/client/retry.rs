//! Retries: exponential back-off with full jitter.

use std::time::Duration;

use super::ClientError;

/// How often to retry, and after which delay.
///
/// Before retry n, counted from 0, the client waits a random time between zero and `base` × 2ⁿ, at most `cap`: "full
/// jitter", so that clients that failed together do not return together. `Retry-After` is waited for in addition.
///
/// Only safe repetitions are made. Handshakes, and fetching and deleting a context, are always repeated. A frame is repeated
/// where the server's handshake announces idempotency keys, as this crate's server does and the Python package's does not;
/// where the server reports that the first attempt is in progress; and where no server can have begun to process it: after a
/// failed connection, a 429, or a 503 with a code or `Retry-After`. Text is repeated in these last cases only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The maximum number of retries. Default: 3.
    pub retries: u32,
    /// The maximum delay before the first retry. Default: 200 ms.
    pub base: Duration,
    /// The maximum delay before any retry. Default: 10 s.
    pub cap: Duration,
    /// The longest `Retry-After` to wait for. Default: 60 s. A longer one fails at once, and the error contains it.
    pub max_retry_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            retries: 3,
            base: Duration::from_millis(200),
            cap: Duration::from_secs(10),
            max_retry_after: Duration::from_secs(60),
        }
    }
}

impl RetryPolicy {
    /// No retries.
    pub const NEVER: Self =
        Self { retries: 0, base: Duration::ZERO, cap: Duration::ZERO, max_retry_after: Duration::ZERO };

    /// The delay before retry number `retry`, counted from 0; `None` for no retry. `random` is between 0 and 1.
    ///
    /// ```
    /// use std::time::Duration;
    /// use avp_transport::client::RetryPolicy;
    ///
    /// let policy = RetryPolicy { retries: 2, ..Default::default() };
    /// assert_eq!(policy.wait(0, None, 0.5), Some(Duration::from_millis(100)));
    /// assert_eq!(policy.wait(1, None, 0.5), Some(Duration::from_millis(200)));
    /// assert_eq!(policy.wait(2, None, 0.5), None);
    /// ```
    #[must_use]
    pub fn wait(&self, retry: u32, retry_after: Option<Duration>, random: f64) -> Option<Duration> {
        if retry >= self.retries {
            return None;
        }
        let asked = retry_after.unwrap_or_default();
        if asked > self.max_retry_after {
            return None;
        }
        let doubled = self.base.saturating_mul(2_u32.saturating_pow(retry)).min(self.cap);
        let share = if (0.0..=1.0).contains(&random) { random } else { 0.0 };
        let jittered = Duration::try_from_secs_f64(doubled.as_secs_f64() * share).unwrap_or(doubled);
        Some(asked.saturating_add(jittered))
    }
}

/// The retries of one operation.
pub(super) struct Retries<'a> {
    policy: &'a RetryPolicy,
    done: u32,
}

impl<'a> Retries<'a> {
    pub(super) const fn new(policy: &'a RetryPolicy) -> Self {
        Self { policy, done: 0 }
    }

    /// Waits before the next attempt, or returns the error where there is none.
    pub(super) async fn pause(&mut self, error: ClientError, repeatable: bool) -> Result<(), ClientError> {
        let wait = match repeatable && error.is_retryable() {
            true => self.policy.wait(self.done, error.retry_after(), rand::random()),
            false => None,
        };
        let Some(wait) = wait else { return Err(error) };
        self.done += 1;
        tracing::debug!(error = error.kind(), retry = self.done, ?wait, "trying again");
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn waits_double_up_to_the_cap_and_end_with_the_count() {
        let policy = RetryPolicy { retries: 5, base: ms(100), cap: ms(500), ..Default::default() };
        let waits: Vec<_> = (0..6).map(|retry| policy.wait(retry, None, 1.0)).collect();
        let expected = [Some(100), Some(200), Some(400), Some(500), Some(500), None];
        assert_eq!(waits, expected.map(|wait| wait.map(ms)));
        let endless = RetryPolicy { retries: u32::MAX, ..policy };
        assert_eq!(endless.wait(u32::MAX - 1, None, 1.0), Some(ms(500)));
    }

    #[test]
    fn jitter_covers_the_whole_interval() {
        let policy = RetryPolicy { base: ms(100), ..Default::default() };
        assert_eq!(policy.wait(0, None, 0.0), Some(ms(0)));
        assert_eq!(policy.wait(0, None, 0.25), Some(ms(25)));
        assert_eq!(policy.wait(0, None, f64::NAN), Some(ms(0)));
    }

    #[test]
    fn a_retry_waits_for_retry_after() {
        let policy = RetryPolicy { base: ms(100), max_retry_after: ms(2000), ..Default::default() };
        assert_eq!(policy.wait(0, Some(ms(1000)), 0.5), Some(ms(1050)));
        assert_eq!(policy.wait(0, Some(ms(2000)), 0.0), Some(ms(2000)));
        assert_eq!(policy.wait(0, Some(ms(2001)), 0.0), None);
    }

    #[test]
    fn no_policy_overflows() {
        let longest = Duration::MAX;
        let policy =
            RetryPolicy { base: longest, cap: longest, max_retry_after: longest, ..Default::default() };
        assert_eq!(policy.wait(2, Some(longest), 1.0), Some(longest));
    }

    #[test]
    fn never_means_no_retry() {
        assert_eq!(RetryPolicy::NEVER.wait(0, None, 0.0), None);
    }
}
