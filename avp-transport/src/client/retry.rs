//! When to try again: exponential back-off with full jitter. Randomness and time are arguments.

use std::time::Duration;

use super::ClientError;

/// How often, and after how long, a deed is tried again.
///
/// Before the n-th retry the client waits a random time between nothing and `base` times 2 to the n, at most `cap`: "full
/// jitter", so that clients which failed together do not come back together. What a server asks for by `Retry-After`
/// is waited for in addition.
///
/// What a server could do twice is not repeated. Fetching and removing a context, and a handshake, are tried again whatever went
/// wrong on the way. A frame is, where the server has said in a handshake that it takes none twice, as this crate's does and
/// the peers' do not; where it says that the first try is still under way; and before any server can have begun on it: when
/// there was no connection, or the answer is 429, or 503 with a reason or a time to come again. Words are repeated in
/// these last cases only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often a deed is tried again: 3 times unless said otherwise.
    pub retries: u32,
    /// The longest wait before the first retry: 200 ms unless said otherwise.
    pub base: Duration,
    /// The longest wait before any retry: 10 s unless said otherwise.
    pub cap: Duration,
    /// The longest `Retry-After` that is waited for, 60 s unless said otherwise: who is asked to wait longer fails at once
    /// and finds the time in the error.
    pub longest_retry_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            retries: 3,
            base: Duration::from_millis(200),
            cap: Duration::from_secs(10),
            longest_retry_after: Duration::from_secs(60),
        }
    }
}

impl RetryPolicy {
    /// Nothing is tried again.
    pub const NEVER: Self =
        Self { retries: 0, base: Duration::ZERO, cap: Duration::ZERO, longest_retry_after: Duration::ZERO };

    /// How long to wait before retry number `retry`, counted from 0; `None` where there shall be none. `random` is drawn
    /// from 0 to 1.
    ///
    /// ```
    /// # use avp_transport::client::RetryPolicy;
    /// # use std::time::Duration;
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
        if asked > self.longest_retry_after {
            return None;
        }
        let doubled = self.base.saturating_mul(2_u32.saturating_pow(retry)).min(self.cap);
        let share = if (0.0..=1.0).contains(&random) { random } else { 0.0 };
        let jittered = Duration::try_from_secs_f64(doubled.as_secs_f64() * share).unwrap_or(doubled);
        Some(asked.saturating_add(jittered))
    }
}

/// The retries of one deed.
pub(super) struct Retries<'a> {
    policy: &'a RetryPolicy,
    done: u32,
}

impl<'a> Retries<'a> {
    pub(super) const fn new(policy: &'a RetryPolicy) -> Self {
        Self { policy, done: 0 }
    }

    /// Waits until the deed may be tried again, or gives the error back where it shall not be.
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
    fn jitter_takes_the_whole_span() {
        let policy = RetryPolicy { base: ms(100), ..Default::default() };
        assert_eq!(policy.wait(0, None, 0.0), Some(ms(0)));
        assert_eq!(policy.wait(0, None, 0.25), Some(ms(25)));
        assert_eq!(policy.wait(0, None, f64::NAN), Some(ms(0)));
    }

    #[test]
    fn a_server_is_not_asked_before_the_time_it_named() {
        let policy = RetryPolicy { base: ms(100), longest_retry_after: ms(2000), ..Default::default() };
        assert_eq!(policy.wait(0, Some(ms(1000)), 0.5), Some(ms(1050)));
        assert_eq!(policy.wait(0, Some(ms(2000)), 0.0), Some(ms(2000)));
        assert_eq!(policy.wait(0, Some(ms(2001)), 0.0), None);
    }

    #[test]
    fn no_policy_and_no_number_is_too_large() {
        let longest = Duration::MAX;
        let policy =
            RetryPolicy { base: longest, cap: longest, longest_retry_after: longest, ..Default::default() };
        assert_eq!(policy.wait(2, Some(longest), 1.0), Some(longest));
    }

    #[test]
    fn never_is_never() {
        assert_eq!(RetryPolicy::NEVER.wait(0, None, 0.0), None);
    }
}
