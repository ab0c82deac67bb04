//! Handshakes with both kinds of server.

use std::time::Duration;

use avp_core::{Dialect, Evidence, Mode, Rule, json::Json};
use avp_transport::{
    client::{Client, ClientOptions, EvidenceLookup},
    wire::Reply,
};

use super::server::{Server, answer, identity, options};

/// What a stock peer's server answers: the hello's own agent and identity.
fn echo(hello: &[u8]) -> Reply {
    let hello = Reply::parse(hello).unwrap();
    Reply::new()
        .with("agent_id", hello.text("agent_id").unwrap())
        .with("identity", hello.field("identity").unwrap().clone())
}

async fn stock_peer() -> Server {
    Server::start(async |call| {
        let hello = call.read().await?;
        Ok(answer(200, &[], echo(&hello).to_string()))
    })
    .await
}

/// A server of our kind with a model of its own, whose sessions are numbered.
async fn our_server(mode: &'static str, expires_in: f64) -> Server {
    Server::start(move |call| async move {
        let number = call.number;
        call.read().await?;
        let reply = Reply::new()
            .with("agent_id", "b")
            .with("avp_version", "0.2.1")
            .with("identity", serde_json::json!({"model_hash": "aa", "model_family": "llama"}))
            .with("session_id", format!("session-{number}"))
            .with("mode", mode)
            .with("expires_in", expires_in);
        Ok(answer(200, &[], reply.to_string()))
    })
    .await
}

#[tokio::test]
async fn a_stock_peer_is_taken_for_a_model_like_ours() {
    let server = stock_peer().await;
    let client = server.client();
    let session = client.handshake().await.unwrap();
    assert_eq!((session.mode, session.rule), (Mode::Latent, Rule::HashMatch));
    assert_eq!((session.dialect, session.id.len()), (Dialect::V0_3, 32));
    assert_eq!(client.session().await.unwrap(), session);
    let seen = &server.seen()[..];
    assert_eq!(seen.len(), 1, "the session is kept");
    assert_eq!((seen[0].method.as_str(), seen[0].path.as_str()), ("POST", "/avp/v2/handshake"));
    assert_eq!((seen[0].header("avp-version"), seen[0].header("avp-agent-id")), ("0.4", "a"));
    assert_eq!(seen[0].header("authorization"), "Bearer s3cret");
    assert_eq!(seen[0].header("content-type"), "application/json");
    assert_eq!(seen[0].header("x-request-id").len(), 32);
    let hello = avp_core::messages::Hello::parse(std::str::from_utf8(&seen[0].body).unwrap()).unwrap();
    assert_eq!((hello.agent_id.as_str(), hello.identity), ("a", Some(identity("aa"))));
}

#[tokio::test]
async fn the_servers_session_and_dialect_are_taken_over() {
    let server = our_server("latent", 60.0).await;
    let client = server.client();
    let session = client.session().await.unwrap();
    assert_eq!(
        (session.id.as_str(), session.mode, session.dialect),
        ("session-0", Mode::Latent, Dialect::V0_2)
    );
    assert_eq!(session.remote.identity.as_ref().unwrap().model_family, "llama");
    assert_eq!(session.expires_in, Some(Duration::from_secs(60)));
    client.health().await.unwrap();
    assert_eq!(server.seen()[1].header("avp-version"), "0.2");
}

#[tokio::test]
async fn many_who_need_a_session_shake_hands_once() {
    let server = our_server("latent", 60.0).await;
    let client = server.client();
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.session().await.unwrap().id.clone() })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), "session-0");
    }
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_session_whose_time_is_up_is_not_used_again() {
    let server = our_server("latent", 0.0).await;
    let client = server.client();
    assert_eq!(client.session().await.unwrap().id, "session-0");
    assert_eq!(client.session().await.unwrap().id, "session-1");
    assert_eq!(client.cached_session().unwrap().id, "session-1");
}

#[tokio::test]
async fn what_the_caller_knows_of_two_models_counts() {
    let server = Server::start(async |call| {
        call.reply(200, Reply::new().with("identity", serde_json::json!({"model_hash": "bb"}))).await
    })
    .await;
    let evidence = EvidenceLookup::new(|ours, theirs| {
        assert_eq!((ours.model_hash.as_str(), theirs.model_hash.as_str()), ("aa", "bb"));
        Evidence { has_stored_map: true, shared_tokens: None }
    });
    let options = ClientOptions { evidence: Some(evidence), ..options() };
    let session = Client::new(&server.url(), options).unwrap().session().await.unwrap();
    assert_eq!(
        (session.mode, session.rule, session.avp_map_id.as_str()),
        (Mode::Latent, Rule::AvpMapFile, "aa_bb")
    );
    let session = server.client().session().await.unwrap();
    assert_eq!((session.mode, session.rule), (Mode::Json, Rule::JsonFallback));
}

#[tokio::test]
async fn an_agent_without_a_model_speaks_in_words() {
    let server = our_server("json", 60.0).await;
    let capabilities = Json::parse(r#"{"tools": true}"#).unwrap();
    let options = ClientOptions { identity: None, capabilities, ..options() };
    let session = Client::new(&server.url(), options).unwrap().session().await.unwrap();
    assert_eq!(session.mode, Mode::Json);
    let hello = Reply::parse(&server.seen()[0].body).unwrap();
    assert_eq!(
        (hello.field("identity"), hello.field("capabilities").unwrap()["tools"].as_bool()),
        (None, Some(true))
    );
}

#[tokio::test]
async fn an_answer_that_is_not_avps_is_refused_and_leaves_no_session() {
    for body in ["<html>", "[]", r#"{"identity": 7}"#] {
        let server = Server::start(move |call| async move {
            call.read().await?;
            Ok(answer(200, &[], body))
        })
        .await;
        let client = server.client();
        assert_eq!(client.handshake().await.unwrap_err().kind(), "protocol", "{body}");
        assert_eq!((client.cached_session(), server.seen().len()), (None, 1));
    }
}
