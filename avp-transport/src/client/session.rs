//! What a handshake came to: mode, dialect, session.

use std::time::Duration;

use avp_core::{Dialect, Evidence, Mode, OwnedModelIdentity, Rule, messages::Hello, resolve};

use super::ClientError;
use crate::{
    id::random_id,
    wire::{IDEMPOTENCY_CAPABILITY, Reply},
};

/// What two agents agreed on.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// The id that frames and messages carry as `session_id`: the server's, or one made here where it gave none.
    pub id: String,
    /// How to talk: [`Mode::Latent`] or [`Mode::Json`].
    pub mode: Mode,
    /// The rule by which the mode was found.
    pub rule: Rule,
    /// The projection map to use; `""` for none.
    pub avp_map_id: String,
    /// The dialect that the server reads.
    pub dialect: Dialect,
    /// The server as it describes itself, with defaults for what it leaves out. A stock peer's server only sends our own
    /// agent and identity back.
    pub remote: Hello,
    /// How long the session lives from the handshake on, where the server says.
    pub expires_in: Option<Duration>,
    /// Whether the server says that it takes a frame once, however often a request with its idempotency key comes. The
    /// peers' servers do not know such keys, and run their handler again.
    pub(super) knows_keys: bool,
}

/// Reads a handshake's answer, and resolves the mode as the peers' clients do: from both identities, on our side. But a
/// server that names a mode has its way. It is the receiver, and knows best what it can take.
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
    let knows_keys = reply.field("capabilities").and_then(|told| told.get(IDEMPOTENCY_CAPABILITY));
    Ok(Session {
        id: id.map_or_else(random_id, str::to_owned),
        mode,
        rule,
        avp_map_id,
        dialect: dialect.unwrap_or(default_dialect),
        remote,
        expires_in: reply.field("expires_in").and_then(seconds),
        knows_keys: knows_keys == Some(&true.into()),
    })
}

/// A number of seconds, where it is one.
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
    fn an_echo_of_our_identity_is_a_hash_match_with_an_id_of_our_own() {
        let reply = r#"{"success": true, "agent_id": "a", "identity": {"model_hash": "aa"}}"#;
        let session = negotiated(&identity("aa"), reply, None).unwrap();
        assert_eq!(
            (session.mode, session.rule, session.dialect),
            (Mode::Latent, Rule::HashMatch, Dialect::V0_3)
        );
        assert_eq!((session.id.len(), session.expires_in, session.knows_keys), (32, None, false));
    }

    #[test]
    fn the_servers_session_version_and_life_are_taken_over() {
        let reply = r#"{"success": true, "identity": null, "session_id": "s1", "avp_version": "0.2.1",
            "expires_in": 60, "mode": "json", "capabilities": {"idempotency_keys": true}}"#;
        let session = negotiated(&identity("aa"), reply, Some("0.4")).unwrap();
        assert_eq!((session.id.as_str(), session.dialect), ("s1", Dialect::V0_2));
        assert_eq!((session.expires_in, session.knows_keys), (Some(Duration::from_secs(60)), true));
        assert_eq!((session.mode, session.rule), (Mode::Json, Rule::JsonFallback));
    }

    #[test]
    fn a_server_knows_keys_where_it_says_so_and_nowhere_else() {
        for (told, knows_keys) in [
            (r#"{"session_id": "s1", "avp_version": "0.6.2"}"#, false),
            (r#"{"session_id": "s1", "capabilities": {"contexts": true}}"#, false),
            (r#"{"capabilities": {"idempotency_keys": "yes"}}"#, false),
            (r#"{"capabilities": {"idempotency_keys": true}}"#, true),
        ] {
            assert_eq!(negotiated(&identity("aa"), told, None).unwrap().knows_keys, knows_keys, "{told}");
        }
    }

    #[test]
    fn a_header_tells_the_dialect_where_the_reply_does_not() {
        assert_eq!(negotiated(&identity("aa"), "{}", Some("0.2")).unwrap().dialect, Dialect::V0_2);
        assert_eq!(negotiated(&identity("aa"), "{}", Some("9")).unwrap().dialect, Dialect::V0_3);
    }

    #[test]
    fn the_receiver_has_its_way_with_the_mode() {
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
    fn nonsense_in_a_reply_is_refused_or_passed_over() {
        let nonsense = negotiated(&identity("aa"), r#"{"identity": "qwen"}"#, None);
        assert_eq!(nonsense.unwrap_err().kind(), "protocol");
        for expires_in in ["-1", "1e300", "\"soon\"", "null"] {
            let session = negotiated(&identity("aa"), &format!(r#"{{"expires_in": {expires_in}}}"#), None);
            assert_eq!(session.unwrap().expires_in, None, "{expires_in}");
        }
    }
}
