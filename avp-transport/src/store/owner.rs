//! Who a context belongs to.

/// Who a context belongs to, and how much that one may keep.
///
/// ```
/// use avp_transport::store::Owner;
///
/// let alice = Owner { name: "alice", quota: Some(1 << 30) };
/// assert_eq!(Owner::from("bob"), Owner { name: "bob", quota: None });
/// # let _ = alice;
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owner<'a> {
    /// The name of the principal; `""` for none.
    pub name: &'a str,
    /// The maximum number of bytes that all of its contexts together occupy, as [`StoreOptions::quota`](super::StoreOptions::quota)
    /// counts them. Its least recently used ones make room for a new one. Default: `None`, and the quota of the store alone counts.
    pub quota: Option<usize>,
}

impl<'a> From<&'a str> for Owner<'a> {
    fn from(name: &'a str) -> Self {
        Self { name, quota: None }
    }
}
