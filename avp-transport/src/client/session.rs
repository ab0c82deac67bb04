//! The result of a handshake: mode, dialect, session.

use std::time::Duration;

use avp_core::{Dialect, Evidence, Mode, OwnedModelIdentity, Rule, messages::Hello, resolve};

use super::ClientError;
use crate::{
    id::random_id,
    wire::{IDEMPOTENCY_CAPABILITY, Reply},
};

/// The result of a handshake.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// The `session_id` for frames and messages: the server's, or a random one where it gave none.
    pub id: String,
    /// The mode: [`Mode::Latent`] or [`Mode::Json`].
    pub mode: Mode,
    /// The rule that selected the mode.
    pub rule: Rule,
    /// The projection map to use; `""` for none.
    pub avp_map_id: String,
    /// The dialect that the server reads.
    pub dialect: Dialect,
    /// The server's own description, with defaults for missing fields. The Python package's default server returns the
    /// client's agent id and identity.
    pub remote: Hello,
    /// The lifetime of the session from the handshake on, if the server states it.
    pub expires_in: Option<Duration>,
    /// Whether the server announces idempotency keys. Servers of the Python package do not, and run their handler again.
    pub(super) supports_idempotency: bool,
}

/// Resolves the mode from both identities, as the Python package's clients do. A mode that the server names overrides the
/// result: the receiver knows what it can read.
pub(super) fn negotiate(
    ours: &OwnedModelIdentity,
    reply: &Reply,
    version_header: Option<&str>,
    default_dialect: Dialect,
    evidence: impl FnOnce(&OwnedModelIdentity, &OwnedModelIdentity) -> Evidence,
) -> Result<Session, ClientError> {
    let remote =
        Hello::parse(&reply.to_string()).map_err(|_| ClientError::Protocol { expected: "an identity" })?;
    let theirs = remote.identity.clone().unwrap_or_default();
    let found = resolve(ours, &theirs, evidence(ours, &theirs));
    let (mut mode, mut rule, mut avp_map_id) = (found.mode, found.rule, found.map_id.to_string());
    match (reply.text("mode"), mode) {
        (Some("json"), Mode::Latent) => {
            (mode, rule, avp_map_id) = (Mode::Json, Rule::JsonFallback, String::new());
        }
        (Some("latent"), Mode::Json) => {
            let their_rule = reply.field("resolution_path").cloned().map(serde_json::from_value);
            match their_rule {
                Some(Ok(their_rule)) if their_rule != Rule::JsonFallback => {
                    let map_id = reply.text("avp_map_id").unwrap_or_default();
                    (mode, rule, avp_map_id) = (Mode::Latent, their_rule, map_id.to_owned());
                }
                _ => return Err(ClientError::Protocol { expected: "the rule of a latent session" }),
            }
        }
        _ => {}
    }
    let version = reply.text("avp_version").and_then(Dialect::from_avp_version);
    let dialect = version.or_else(|| version_header.and_then(Dialect::from_avp_version));
    let id = reply.text("session_id").filter(|id| !id.is_empty());
    let supports_idempotency = reply.field("capabilities").and_then(|told| told.get(IDEMPOTENCY_CAPABILITY));
    Ok(Session {
        id: id.map_or_else(random_id, str::to_owned),
        mode,
        rule,
        avp_map_id,
        dialect: dialect.unwrap_or(default_dialect),
        remote,
        expires_in: reply.field("expires_in").and_then(seconds),
        supports_idempotency: supports_idempotency == Some(&true.into()),
    })
}

/// A number of seconds, if it is a valid one.
pub(super) fn seconds(value: &serde_json::Value) -> Option<Duration> {
    value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(hash: &str) -> OwnedModelIdentity {
        OwnedModelIdentity { model_hash: hash.into(), ..Default::default() }
    }

    fn negotiated(
        ours: &OwnedModelIdentity,
        reply: &str,
        header: Option<&str>,
    ) -> Result<Session, ClientError> {
        let reply = Reply::parse(reply.as_bytes()).unwrap();
        negotiate(ours, &reply, header, Dialect::V0_3, |_, _| Evidence::default())
    }

    #[test]
    fn an_echoed_identity_is_a_hash_match_with_a_random_id() {
        let reply = r#"{"success": true, "agent_id": "a", "identity": {"model_hash": "aa"}}"#;
        let session = negotiated(&identity("aa"), reply, None).unwrap();
        assert_eq!(
            (session.mode, session.rule, session.dialect),
            (Mode::Latent, Rule::HashMatch, Dialect::V0_3)
        );
        assert_eq!((session.id.len(), session.expires_in, session.supports_idempotency), (32, None, false));
    }

    #[test]
    fn the_servers_session_version_and_lifetime_are_used() {
        let reply = r#"{"success": true, "identity": null, "session_id": "s1", "avp_version": "0.2.1",
            "expires_in": 60, "mode": "json", "capabilities": {"idempotency_keys": true}}"#;
        let session = negotiated(&identity("aa"), reply, Some("0.4")).unwrap();
        assert_eq!((session.id.as_str(), session.dialect), ("s1", Dialect::V0_2));
        assert_eq!((session.expires_in, session.supports_idempotency), (Some(Duration::from_secs(60)), true));
        assert_eq!((session.mode, session.rule), (Mode::Json, Rule::JsonFallback));
    }

    #[test]
    fn only_an_announced_capability_counts() {
        for (told, supports_idempotency) in [
            (r#"{"session_id": "s1", "avp_version": "0.6.2"}"#, false),
            (r#"{"session_id": "s1", "capabilities": {"contexts": true}}"#, false),
            (r#"{"capabilities": {"idempotency_keys": "yes"}}"#, false),
            (r#"{"capabilities": {"idempotency_keys": true}}"#, true),
        ] {
            assert_eq!(
                negotiated(&identity("aa"), told, None).unwrap().supports_idempotency,
                supports_idempotency,
                "{told}"
            );
        }
    }

    #[test]
    fn a_header_tells_the_dialect_where_the_reply_does_not() {
        assert_eq!(negotiated(&identity("aa"), "{}", Some("0.2")).unwrap().dialect, Dialect::V0_2);
        assert_eq!(negotiated(&identity("aa"), "{}", Some("9")).unwrap().dialect, Dialect::V0_3);
    }

    #[test]
    fn the_servers_mode_overrides_ours() {
        let same = r#"{"identity": {"model_hash": "aa"}, "mode": "json"}"#;
        assert_eq!(negotiated(&identity("aa"), same, None).unwrap().mode, Mode::Json);
        let mapped = r#"{"identity": {"model_hash": "bb"}, "mode": "latent", "resolution_path": "avp_map_file",
            "avp_map_id": "aa_bb"}"#;
        let session = negotiated(&identity("aa"), mapped, None).unwrap();
        assert_eq!((session.mode, session.rule), (Mode::Latent, Rule::AvpMapFile));
        assert_eq!(session.avp_map_id, "aa_bb");
        let unfounded = r#"{"identity": {}, "mode": "latent"}"#;
        assert_eq!(negotiated(&identity("aa"), unfounded, None).unwrap_err().kind(), "protocol");
    }

    #[test]
    fn invalid_fields_of_a_reply_are_refused_or_ignored() {
        let nonsense = negotiated(&identity("aa"), r#"{"identity": "qwen"}"#, None);
        assert_eq!(nonsense.unwrap_err().kind(), "protocol");
        for expires_in in ["-1", "1e300", "\"soon\"", "null"] {
            let session = negotiated(&identity("aa"), &format!(r#"{{"expires_in": {expires_in}}}"#), None);
            assert_eq!(session.unwrap().expires_in, None, "{expires_in}");
        }
    }
}
