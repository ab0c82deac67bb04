//! A limited number of bytes or places, of which no caller can take all.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::Caller;

/// A caller may hold this part, as numerator and denominator, of what all others leave.
const PART: (u128, u128) = (4, 5);

/// A number of bytes or places that callers share: each may hold four fifths of what all others leave.
///
/// So one caller alone gets nearly all of it, two that want everything get 44 % each, and something is always left for the next
/// caller. This is the dynamic threshold of Choudhury and Hahne ("Dynamic queue length thresholds for shared-memory
/// packet switches", 1998), with a factor of 4.
///
/// ```
/// use avp_transport::server::{Caller, FairShares};
///
/// let memory = FairShares::new(100);
/// let greedy = Caller::Principal("greedy".to_owned());
/// let share = memory.take(&greedy, 80);
/// assert!(share.is_ok() && memory.take(&greedy, 1).is_err());
/// assert!(memory.take(&Caller::Principal("other".to_owned()), 16).is_ok());
/// ```
#[derive(Debug, Clone)]
pub struct FairShares(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    limit: u64,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    total: u64,
    /// What each caller holds; never 0.
    by_caller: HashMap<Caller, u64>,
}

impl FairShares {
    /// Shares of so many bytes or places.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(Pool { limit, held: Mutex::default() }))
    }

    /// All bytes or places, taken or free.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// The bytes or places that are taken.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.0.held().total
    }

    /// The most that one caller can hold while nobody else holds anything.
    #[must_use]
    pub fn most(&self) -> u64 {
        part_of(self.0.limit)
    }

    /// Takes a share for `caller` until it is dropped.
    ///
    /// # Errors
    /// [`NoRoom`] if the caller would hold more than its part.
    pub fn take(&self, caller: &Caller, amount: u64) -> Result<Share, NoRoom> {
        self.take_at_most(caller, amount, u64::MAX)
    }

    /// As [`take`](Self::take), with a limit of the caller: all of its shares together are at most `most`.
    ///
    /// # Errors
    /// [`NoRoom`] if the caller would hold more than its part, or than `most`.
    pub fn take_at_most(&self, caller: &Caller, amount: u64, most: u64) -> Result<Share, NoRoom> {
        let mut share = Share { pool: self.0.clone(), caller: caller.clone(), amount: 0, most };
        share.grow_to(amount)?;
        Ok(share)
    }
}

/// A caller would hold more than its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{needed} are needed in one piece, of which a caller may have at most {most}, and fewer while others have some"
)]
pub struct NoRoom {
    /// The size of the share.
    pub needed: u64,
    /// The most that a caller can hold while nobody else holds anything.
    pub most: u64,
}

impl NoRoom {
    /// Whether it may fit later.
    #[must_use]
    pub const fn is_for_now(&self) -> bool {
        self.needed <= self.most
    }
}

/// A share of [`FairShares`], given back when it is dropped.
#[derive(Debug)]
#[must_use = "dropping it gives it back"]
pub struct Share {
    pool: Arc<Pool>,
    caller: Caller,
    amount: u64,
    /// The most that the caller may hold by a limit of its own.
    most: u64,
}

impl Share {
    /// What is held.
    #[must_use]
    pub const fn amount(&self) -> u64 {
        self.amount
    }

    /// Grows to `amount`, if it is not as large already.
    ///
    /// # Errors
    /// [`NoRoom`] if the caller would hold more than its part. Then nothing changes.
    pub fn grow_to(&mut self, amount: u64) -> Result<(), NoRoom> {
        let more = amount.saturating_sub(self.amount);
        if more == 0 {
            return Ok(());
        }
        let mut held = self.pool.held();
        let own = self.own_with(&held, more).ok_or_else(|| self.no_room(amount))?;
        held.total += more;
        held.by_caller.insert(self.caller.clone(), own);
        self.amount = amount;
        Ok(())
    }

    /// Whether it could grow to `amount` now. Nothing is taken.
    ///
    /// # Errors
    /// As [`grow_to`](Self::grow_to).
    pub fn could_grow_to(&self, amount: u64) -> Result<(), NoRoom> {
        let more = amount.saturating_sub(self.amount);
        let own = self.own_with(&self.pool.held(), more);
        own.map(drop).ok_or_else(|| self.no_room(amount))
    }

    /// What the caller would hold with `more`; `None` where that exceeds its part or its own limit.
    fn own_with(&self, held: &Held, more: u64) -> Option<u64> {
        let own = held.by_caller.get(&self.caller).copied().unwrap_or_default();
        let left_by_others = self.pool.limit - (held.total - own);
        own.checked_add(more).filter(|own| *own <= part_of(left_by_others).min(self.most))
    }

    fn no_room(&self, needed: u64) -> NoRoom {
        NoRoom { needed, most: part_of(self.pool.limit).min(self.most) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.amount == 0 {
            return;
        }
        let mut held = self.pool.held();
        held.total -= self.amount;
        if let Some(own) = held.by_caller.get_mut(&self.caller) {
            *own -= self.amount;
            if *own == 0 {
                held.by_caller.remove(&self.caller);
            }
        }
    }
}

impl Pool {
    /// No operation panics halfway through a change, so the counts behind a poisoned lock are consistent.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The largest part of `left` for one caller: rounded up, so that a single place can be taken.
fn part_of(left: u64) -> u64 {
    (u128::from(left) * PART.0).div_ceil(PART.1) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn caller(number: usize) -> Caller {
        Caller::Principal(number.to_string())
    }

    /// What one caller can take, a piece at a time.
    fn take_all(shares: &FairShares, caller: &Caller, piece: u64) -> Vec<Share> {
        std::iter::from_fn(|| shares.take(caller, piece).ok()).collect()
    }

    #[test]
    fn greedy_callers_leave_a_share_for_the_next() {
        let shares = FairShares::new(1000);
        let mut held = Vec::new();
        for (number, expected) in [800, 160, 32, 7, 1].into_iter().enumerate() {
            let taken = take_all(&shares, &caller(number), 1);
            assert_eq!(taken.len(), expected);
            held.push(taken);
        }
        assert_eq!(shares.taken(), 1000);
        drop(held);
        assert_eq!((shares.taken(), shares.0.held().by_caller.len()), (0, 0));
    }

    #[test]
    fn a_share_grows_within_its_callers_part_and_is_unchanged_beyond_it() {
        let shares = FairShares::new(100);
        let mut share = shares.take(&caller(0), 0).unwrap();
        assert_eq!((share.grow_to(50), share.grow_to(10), share.amount()), (Ok(()), Ok(()), 50));
        let second = shares.take(&caller(0), 30).unwrap();
        let full = share.grow_to(51).unwrap_err();
        assert!(full.is_for_now() && share.amount() == 50, "both shares are one caller's");
        drop(second);
        assert_eq!((share.could_grow_to(80), share.amount()), (Ok(()), 50));
        assert_eq!(share.grow_to(80), Ok(()));
        let never = share.grow_to(u64::MAX).unwrap_err();
        assert_eq!((never, never.is_for_now()), (NoRoom { needed: u64::MAX, most: 80 }, false));
        assert_eq!(shares.taken(), 80);
    }

    #[test]
    fn a_limit_of_the_caller_counts_all_of_its_shares() {
        let shares = FairShares::new(100);
        let _first = shares.take_at_most(&caller(0), 3, 4).unwrap();
        let mut second = shares.take_at_most(&caller(0), 1, 4).unwrap();
        let refused = NoRoom { needed: 2, most: 4 };
        assert_eq!(
            (second.grow_to(2), shares.take_at_most(&caller(0), 2, 4).unwrap_err()),
            (Err(refused), refused)
        );
        assert!(shares.take_at_most(&caller(1), 4, 4).is_ok(), "another caller");
    }

    #[test]
    fn the_only_place_can_be_taken_and_none_of_no_places() {
        assert!(FairShares::new(1).take(&caller(0), 1).is_ok());
        assert!(FairShares::new(0).take(&caller(0), 1).is_err());
        assert_eq!((FairShares::new(u64::MAX).most() / (1 << 60), FairShares::new(5).most()), (12, 4));
    }

    proptest! {
        #[test]
        fn the_limit_holds_and_everything_comes_back(
            limit in 0_u64..1000,
            steps in prop::collection::vec((0_usize..4, 0_u64..400, any::<bool>()), 0..100),
        ) {
            let shares = FairShares::new(limit);
            let mut held: Vec<Share> = Vec::new();
            for (number, amount, gives_back) in steps {
                if gives_back && !held.is_empty() {
                    drop(held.swap_remove(number % held.len()));
                }
                held.extend(shares.take(&caller(number), amount));
                prop_assert_eq!(held.iter().map(Share::amount).sum::<u64>(), shares.taken());
                prop_assert!(shares.taken() <= limit);
            }
            drop(held);
            prop_assert_eq!(shares.taken(), 0);
        }
    }
}
