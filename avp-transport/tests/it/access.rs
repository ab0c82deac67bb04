//! Who is let in, and what each principal sees.

use std::num::NonZeroU32;

use avp_transport::{
    server::{
        AllowedHosts, AllowedOrigins, Limits, Principal, PrincipalLimits, Scope, Scopes, ServerOptions,
        Tokens,
    },
    wire,
};
use http::{Method, StatusCode, header};

use crate::common::{Running, answer, frame};

#[tokio::test]
async fn without_a_token_only_health_is_told() {
    let server =
        Running::stock(ServerOptions { tokens: Tokens::new(["s3cret"]), ..Default::default() }).await;
    let health = server.get(wire::HEALTH).await;
    assert_eq!(health.text().await.unwrap(), r#"{"status":"ok"}"#);
    for path in [wire::METRICS, "/avp/v2/contexts/x"] {
        let refused = server.get(path).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(refused.headers()[header::WWW_AUTHENTICATE], "Bearer");
    }
    let (status, reply) = server.post(wire::TRANSMIT, frame(10)).await;
    assert_eq!((status, &reply["code"], &reply["success"]), (401, &"unauthorized".into(), &false.into()));
    let request = server.http.post(server.url(wire::TRANSMIT)).bearer_auth("s3cret").body(frame(10));
    assert_eq!(answer(request).await.0, 200);
    let request = server.http.post(server.url(wire::TRANSMIT)).bearer_auth("s3creT").body(frame(10));
    assert_eq!(answer(request).await.0, 401);
}

#[tokio::test]
async fn requests_are_counted_for_each_principal_and_guesses_for_their_address() {
    let options = ServerOptions {
        tokens: Tokens::new(["alpha", "beta"]),
        limits: Limits { requests_per_second: NonZeroU32::new(3), ..Default::default() },
        ..Default::default()
    };
    let server = Running::stock(options).await;
    // Whatever they call themselves.
    let ask = |token: &'static str, agent: usize| {
        let request = server.http.get(server.url(wire::METRICS)).bearer_auth(token);
        request.header(wire::AGENT_HEADER, agent.to_string()).send()
    };
    for (token, status) in [("alpha", 200), ("guess", 401), ("beta", 200)] {
        for agent in 0..3 {
            assert_eq!(ask(token, agent).await.unwrap().status(), status, "{token}");
        }
        let refused = ask(token, 3).await.unwrap();
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS, "{token}");
        assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
    }
}

#[tokio::test]
async fn a_principal_has_limits_of_its_own() {
    let limits =
        PrincipalLimits { quota: Some(8 << 10), requests_per_second: NonZeroU32::new(5), places: None };
    let alice = Principal { name: "alice".into(), limits, ..Default::default() };
    let tokens = Tokens::default().with("a", alice.clone()).with("a2", alice).and("b");
    let server = Running::stock(ServerOptions { tokens, ..ServerOptions::default() }).await;
    let send = async |token: &str, len: usize| {
        let request = server.http.post(server.url(wire::TRANSMIT)).bearer_auth(token).body(frame(len));
        let (status, reply) = answer(request).await;
        (status, reply["code"].as_str().or(reply["context_id"].as_str()).unwrap().to_owned())
    };
    let is_there = async |id: &str| {
        let url = server.url(&format!("{}{id}", wire::CONTEXTS));
        server.http.head(url).bearer_auth("b").send().await.unwrap().status() == 200
    };
    assert_eq!(send("a", 8 << 10).await, (507, "quota".to_owned()));
    let (_, other) = send("b", 8 << 10).await;
    let (_, first) = send("a", 3 << 10).await;
    let (_, second) = send("a2", 4 << 10).await;
    for (id, status) in [(&first, 404), (&second, 200)] {
        let url = server.url(&format!("{}{id}", wire::CONTEXTS));
        let response = server.http.head(url).bearer_auth("a").send().await.unwrap();
        assert_eq!(response.status(), status, "the oldest of its own makes room");
    }
    assert!(is_there(&other).await);
    assert_eq!(send("a2", 10).await, (429, "too_many_requests".to_owned()));
}

fn principals() -> ServerOptions {
    let tokens = [("a", "alice", Scopes::OWN), ("a2", "alice", Scopes::OWN), ("b", "bob", Scopes::OWN)];
    let tokens = tokens.into_iter().chain([("ops", "ops", "admin".parse().unwrap())]);
    let tokens = tokens.fold(Tokens::default(), |tokens, (token, name, scopes)| {
        tokens.with(token, Principal { name: name.to_owned(), scopes, ..Default::default() })
    });
    ServerOptions { tokens, ..ServerOptions::default() }
}

#[tokio::test]
async fn contexts_of_another_principal_do_not_exist_for_it() {
    let server = Running::stock(principals()).await;
    let send = async |token: &str, key: &str, frame: Vec<u8>| {
        let request = server.http.post(server.url(wire::TRANSMIT)).bearer_auth(token).body(frame);
        let (status, reply) = answer(request.header(wire::IDEMPOTENCY_HEADER, key)).await;
        assert_eq!(status, 200, "{reply}");
        reply["context_id"].as_str().unwrap().to_owned()
    };
    let ask = async |method: Method, token: &str, id: &str| {
        let url = server.url(&format!("{}{id}", wire::CONTEXTS));
        let response = server.http.request(method, url).bearer_auth(token).send().await.unwrap();
        response.status().as_u16()
    };
    let id = send("a", "k", frame(10)).await;
    for method in [Method::GET, Method::HEAD, Method::DELETE] {
        assert_eq!(ask(method.clone(), "b", &id).await, 404);
        assert_eq!(ask(method, "b", "none").await, 404);
    }
    for token in ["a", "a2", "ops"] {
        assert_eq!(ask(Method::GET, token, &id).await, 200, "{token}");
    }
    // The same key and the same frame are another request of another principal.
    let other = send("b", "k", frame(10)).await;
    assert_ne!(other, id);
    assert_eq!(send("a2", "k", frame(10)).await, id);
    assert_eq!(ask(Method::DELETE, "ops", &other).await, 200);
    assert_eq!(ask(Method::DELETE, "a2", &id).await, 200);
    assert_eq!(ask(Method::GET, "a", &id).await, 404);
}

#[tokio::test]
async fn a_link_reads_its_context_without_a_token_and_does_nothing_else() {
    let server = Running::stock(principals()).await;
    let send = server.http.post(server.url(wire::TRANSMIT)).bearer_auth("a").body(frame(10));
    let id = answer(send).await.1["context_id"].as_str().unwrap().to_owned();
    let link = async |token: &str, id: &str, body: &'static str| {
        let request = server.http.post(server.url(&format!("{}{id}", wire::CONTEXTS))).bearer_auth(token);
        answer(request.header(header::CONTENT_TYPE, wire::JSON).body(body)).await
    };
    for (token, id, body, status) in [
        ("a", &*id, r#"{"expires_in": 60}"#, 200),
        ("ops", &id, "{}", 200),
        ("b", &id, "{}", 404),
        ("a", "none", "{}", 404),
        ("guess", &id, "{}", 401),
        ("a", &id, "", 400),
        ("a", &id, r#"{"expires_in": -1}"#, 400),
        ("a", &id, r#"{"expires": 60}"#, 400),
    ] {
        assert_eq!(link(token, id, body).await.0, status, "{token} {body}");
    }
    let reply = link("a", &id, r#"{"expires_in": 1000000}"#).await.1;
    assert_eq!(reply["expires_in"], 300, "no longer than the context");
    let made = reply["link"].as_str().unwrap().to_owned();

    let ask = async |method: Method, id: &str| {
        let request = server.http.request(method, server.url(&format!("{}{id}", wire::CONTEXTS)));
        request.header(header::CONTENT_TYPE, wire::JSON).body("{}").send().await.unwrap()
    };
    assert_eq!(ask(Method::GET, &made).await.bytes().await.unwrap(), frame(10));
    assert_eq!(ask(Method::HEAD, &made).await.status(), 200);
    for method in [Method::DELETE, Method::POST, Method::PUT] {
        assert_eq!(ask(method.clone(), &made).await.status(), 401, "{method}");
    }
    assert_eq!(link("a", &made, "{}").await.0, 404, "a link makes no links");
    let forged = format!("{}{}", &made[..made.len() - 1], if made.ends_with('0') { '1' } else { '0' });
    for refused in [&*forged, &made.replacen(&id, &id.chars().rev().collect::<String>(), 1)] {
        assert_eq!(ask(Method::GET, refused).await.status(), 404, "{refused}");
    }
    for refused in [&*id, &made[..made.len() - 1], &format!("{made}/"), &made.replace('.', "%2E")] {
        assert_eq!(ask(Method::GET, refused).await.status(), 401, "{refused}");
    }
    let expired = link("a", &id, r#"{"expires_in": 0}"#).await.1;
    assert_eq!(ask(Method::GET, expired["link"].as_str().unwrap()).await.status(), 404);
    let delete = server.http.delete(server.url(&format!("{}{id}", wire::CONTEXTS))).bearer_auth("a");
    assert_eq!(answer(delete).await.0, 200);
    assert_eq!(ask(Method::GET, &made).await.status(), 404, "the context is gone");
}

#[tokio::test]
async fn a_token_without_the_scope_of_a_request_is_refused() {
    let tokens = Scope::ALL.into_iter().fold(Tokens::default(), |tokens, scope| {
        let (name, scopes) = (scope.as_str().to_owned(), scope.as_str().parse().unwrap());
        tokens.with(scope.as_str(), Principal { name, scopes, ..Default::default() })
    });
    let server = Running::stock(ServerOptions { tokens, ..ServerOptions::default() }).await;
    let context = format!("{}none", wire::CONTEXTS);
    for (needed, method, path) in [
        (Scope::Send, Method::POST, wire::HANDSHAKE),
        (Scope::Send, Method::POST, wire::TRANSMIT),
        (Scope::Fetch, Method::GET, &context),
        (Scope::Fetch, Method::HEAD, &context),
        (Scope::Fetch, Method::POST, &context),
        (Scope::Delete, Method::DELETE, &context),
        (Scope::Complete, Method::POST, wire::TEXT),
        (Scope::Complete, Method::POST, "/v1/chat/completions"),
        (Scope::Metrics, Method::GET, wire::METRICS),
    ] {
        for scope in Scope::ALL {
            let request = server.http.request(method.clone(), server.url(path)).bearer_auth(scope.as_str());
            let response = request.send().await.unwrap();
            let is_refused = response.status() == StatusCode::FORBIDDEN;
            assert_eq!(is_refused, scope != needed && scope != Scope::Admin, "{method} {path} {scope:?}");
        }
    }
}

#[tokio::test]
async fn hosts_that_are_not_the_servers_and_pages_of_other_origins_are_refused_everywhere() {
    let options = ServerOptions {
        hosts: AllowedHosts::new(["avp.example"]).unwrap(),
        origins: AllowedOrigins::new(["https://app.example"]).unwrap(),
        ..ServerOptions::default()
    };
    let server = Running::stock(options).await;
    let (_, kept) = server.post(wire::TRANSMIT, frame(10)).await;
    let context = format!("{}{}", wire::CONTEXTS, kept["context_id"].as_str().unwrap());
    let stored = server.stored_bytes().await;
    let paths =
        [wire::HEALTH, wire::METRICS, wire::HANDSHAKE, wire::TRANSMIT, wire::TEXT, &context, "/v1/models"];
    for path in paths {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let refused = async |name: &str, value: &str| {
                let request = server.http.request(method.clone(), server.url(path)).header(name, value);
                let (status, reply) = answer(request).await;
                (status, reply["code"].as_str().unwrap().to_owned())
            };
            let is = |status, code: &str| (status, code.to_owned());
            assert_eq!(refused("host", "rebound.evil.example").await, is(421, "host_not_allowed"), "{path}");
            assert_eq!(
                refused("origin", "https://evil.example").await,
                is(403, "origin_not_allowed"),
                "{path}"
            );
            assert_eq!(refused("sec-fetch-site", "same-site").await, is(403, "origin_not_allowed"), "{path}");
        }
    }
    assert_eq!(server.stored_bytes().await, stored);

    let own = server.http.get(server.url(&context)).header("host", "avp.example:1");
    let got = own.header("origin", "https://app.example").send().await.unwrap();
    assert_eq!(got.status(), 200);
    assert_eq!(got.headers()["access-control-allow-origin"], "https://app.example");
    let preflight = server.http.request(Method::OPTIONS, server.url(wire::TRANSMIT));
    let preflight = preflight
        .header("origin", "https://app.example")
        .header("access-control-request-method", "POST")
        .send()
        .await
        .unwrap();
    assert_eq!(preflight.status(), 200);
    assert!(preflight.headers()["access-control-allow-headers"].to_str().unwrap().contains("authorization"));
}
