//! Random ids: of contexts, sessions, requests, multipart boundaries.

/// 128 random bits as 32 hexadecimal digits.
pub(crate) fn random_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}
